"""Choose what a painter learns from: import collections of images, with a manifest of every decision."""
