"""Classes and heat maps of images."""
