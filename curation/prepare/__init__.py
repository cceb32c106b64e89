"""From a collection of images to a dataset with its manifest."""
