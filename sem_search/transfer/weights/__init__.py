"""Weights for a backbone: ImageNet's, the shipped ones, a file's or random ones, and the record of what was used."""
