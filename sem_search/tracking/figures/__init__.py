"""Figures, drawn from plain numbers."""
