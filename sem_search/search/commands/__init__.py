"""What the command line starts, but for the search itself."""
