"""What is registered: the files of a model, written and read."""
