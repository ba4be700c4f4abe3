"""Pictures in: reading, catalogue, tiles, folds, inspection and the demonstration set. Knows no network."""
