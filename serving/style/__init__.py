"""The style classifier, and the check of images by it."""
