"""How much one request may ask for: the one place of these numbers, for the model, the server and the command line."""

from dataclasses import dataclass

from sem_search.micrographs.reading.options import DEFAULT_MAX_MEGAPIXELS

MAX_ROWS = 1000
"""Images per request. What is longer is a batch, and better sent in parts that can be repeated."""

MAX_REQUEST_MEGAPIXELS = 100.0
"""Pixels of all images of a request together: 0.4 GB as grey levels. A single image has the classifier's own limit."""

MAX_REQUEST_MB = 64.0
"""Of a request's body. 48 MB of picture files: a 4096 x 3072 scan of 16 bits has 25 MB, not compressed."""


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """How much one request may ask for."""

    max_bytes: int = int(MAX_REQUEST_MB * 1e6)
    """Of the body."""
    max_rows: int = MAX_ROWS
    max_elements: int = 101 * MAX_ROWS
    """Rows with 100 columns each, counted in the bytes: made into Python, an empty list of two bytes takes over 50."""
    max_image_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    max_request_megapixels: float = MAX_REQUEST_MEGAPIXELS
