"""Fifty CSVs that are wrong, and what the refusal of each must name."""

from collections.abc import Mapping

LONG = "x" * 300
HEADER = "image,label\n"
GOOD = "a/1.png,a\na/2.png,a\nb/1.png,b\n"

WRONG_TABLES: Mapping[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "blank lines": (b"\n\n\n", "empty"),
    "spaces": (b"   \n \n", "empty"),
    "byte order mark alone": (b"\xef\xbb\xbf", "empty"),
    "header alone": (HEADER.encode(), "names no images"),
    "no header": (GOOD.encode(), "no column"),
    "other header": (b"file,class\na/1.png,a\n", "no column"),
    "no label": (b"image\na/1.png\n", "'label'"),
    "no image": (b"label\na\n", "'image'"),
    "header of one word": (b"imagelabel\na/1.png\n", "no column"),
    "header in quotes as one": (b'"image,label"\na/1.png\n', "no column"),
    "separator |": (b"image|label\na/1.png|a\n", "no column"),
    "utf-16": ("image,label\na/1.png,a\n".encode("utf-16"), "UTF-8"),
    "utf-32": ("image,label\na/1.png,a\n".encode("utf-32"), "UTF-8"),
    "latin-1": ("image,label\na/1.png,körner\n".encode("latin-1"), "UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "UTF-8"),
    "a pickle": (b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.", "UTF-8"),
    "a zip": (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "no column"),
    "json": (b'[{"image": "a/1.png", "label": "a"}]', "no column"),
    "html": (b"<html><body>log in</body></html>\n", "no column"),
    "nulls": (b"\0" * 1000, "no column"),
    "open quote": (HEADER.encode() + b'"a/1.png,a\n', "well-formed"),
    "quote within": (HEADER.encode() + b'"a"x/1.png,a\n', "well-formed"),
    "huge field": (HEADER.encode() + b'"' + b"x" * 200_000 + b'",a\n', "well-formed"),
    "label missing": (HEADER.encode() + b"a/1.png,\n", "line 2"),
    "image missing": (HEADER.encode() + b",a\n", "line 2"),
    "value too few": (HEADER.encode() + b"a/1.png\n", "line 2"),
    "value too many": (HEADER.encode() + b"a/1.png,a,b,c\n", "line 2"),
    "absolute path": (HEADER.encode() + b"/etc/passwd,a\n", "leaves the folder"),
    "parent": (HEADER.encode() + b"../a/1.png,a\n", "leaves the folder"),
    "parent within": (HEADER.encode() + b"a/../../x/1.png,a\n", "leaves the folder"),
    "parent of parents": (HEADER.encode() + b"../../../../../../etc/passwd,a\n", "leaves the folder"),
    "windows drive": (HEADER.encode() + b"C:\\x\\1.png,a\n", "leaves the folder"),
    "windows share": (HEADER.encode() + b"\\\\server\\share\\1.png,a\n", "leaves the folder"),
    "backslash parent": (HEADER.encode() + b"..\\1.png,a\n", "leaves the folder"),
    "null in a name": (HEADER.encode() + b"a/1\0.png,a\n", "control characters"),
    "escape in a label": (HEADER.encode() + b"a/1.png,\x1b[2Ja\n", "control characters"),
    "line break in a label": (HEADER.encode() + b'a/1.png,"a\nb"\n', "control characters"),
    "name too long": (HEADER.encode() + f"{LONG}.png,a\n".encode(), "longer than"),
    "label too long": (HEADER.encode() + f"a/1.png,{LONG}\n".encode(), "longer than"),
    "path far too deep": (HEADER.encode() + b"a/" * 5000 + b"1.png,a\nb/1.png,b\n", "longer than"),
    "named twice": (HEADER.encode() + b"a/1.png,a\na/1.png,b\nb/1.png,b\n", "2 times"),
    "named twice by two ways": (HEADER.encode() + b"a/1.png,a\na/./1.png,b\nb/1.png,b\n", "2 times"),
    "one class": (HEADER.encode() + b"a/1.png,a\na/2.png,a\n", "only the class"),
    "no such files": (HEADER.encode() + b"a/none.png,a\nb/none.png,b\n", "2 of 2 files cannot be used"),
    "folders": (HEADER.encode() + b"a,a\nb,b\n", "is a folder"),
    "itself": (HEADER.encode() + b"list.csv,a\nb/1.png,b\n", "not an image of a known format"),
    "a device by a link": (HEADER.encode() + b"zero.png,a\nb/1.png,b\n", "leads through a link"),
    "a pipe": (HEADER.encode() + b"pipe.png,a\nb/1.png,b\n", "not a regular file"),
    "links in a circle": (HEADER.encode() + b"circle.png,a\nb/1.png,b\n", "run in a circle"),
    "a home": (HEADER.encode() + b"~/1.png,a\nb/1.png,b\n", "cannot be used"),
    "a web address": (HEADER.encode() + b"https://example.org/1.png,a\nb/1.png,b\n", "cannot be used"),
    "too few images": (HEADER.encode() + GOOD.encode(), "folds"),
}
"""What was done -> the file's content, and a part of the sentence that refuses it.

They are read as `list.csv` in a folder with the pictures a/1.png, a/2.png and b/1.png, a link to a device (zero.png), a
pipe (pipe.png), and a link to itself (circle.png).
"""
