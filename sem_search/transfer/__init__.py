"""One network: backbone, weights, cut, features, head training and Grad-CAM."""
