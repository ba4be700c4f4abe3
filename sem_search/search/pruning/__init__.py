"""When a cell is pruned, between the folds and within one."""
