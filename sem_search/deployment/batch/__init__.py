"""Folders of images classified into a table."""
