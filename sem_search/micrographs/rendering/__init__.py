"""How micrographs of powders are rendered, from material to file; the way in is `scan.render_scan`."""
