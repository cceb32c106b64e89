"""Directions in w, found by components, by weights or by labels: `salon directions`."""
