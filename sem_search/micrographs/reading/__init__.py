"""One file in, one grey micrograph out, with what the instrument wrote about it."""
