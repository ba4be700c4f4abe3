import os
import subprocess
import sys

import pytest

from sem_search.transfer.quiet_start import drop_notes


def test_notes_are_dropped_and_warnings_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with drop_notes():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, b"I0000 00:00:1.5   7 port.cc:153] custom operations are on\n")
        os.write(2, b"W0000 00:00:1.5   7 port.cc:153] this processor is old\nsomething else\n")
    os.write(2, b"I0000 00:00:1.5   7 after\n")
    told = capfd.readouterr().err
    assert told == "W0000 00:00:1.5   7 port.cc:153] this processor is old\nsomething else\nI0000 00:00:1.5   7 after\n"


def test_what_was_said_before_a_failure_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError), drop_notes():
        os.write(2, b"a library is missing\n")
        raise ImportError
    assert capfd.readouterr().err == "a library is missing\n"


def test_tensorflow_starts_without_a_word() -> None:
    code = "from sem_search.transfer.quiet_start import load_tensorflow; load_tensorflow()"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stderr == ""
