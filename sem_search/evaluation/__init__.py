"""Numbers out of predictions, with NumPy, SciPy and scikit-learn alone."""
