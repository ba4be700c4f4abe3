"""Measurements of speed: `scripts/benchmark NAME`. Every ratio is measured side by side, in one run."""
