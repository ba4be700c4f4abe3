"""The whole job in a browser, on one machine: images, search, result, models, classification."""
