"""Whole micrographs in, one answer per image out."""
