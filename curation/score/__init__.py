"""Checks and scores of images, as columns of a manifest."""
