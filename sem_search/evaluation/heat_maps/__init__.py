"""Whether heat maps agree with one another, and what they lie on."""
