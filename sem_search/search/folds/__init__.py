"""Folds: trained, stored, and repaired."""
