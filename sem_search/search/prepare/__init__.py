"""From settings to tiles, folds and features: all that stands before the first trial."""
