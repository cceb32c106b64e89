"""The web gallery of a served generator: image grids, style mixing, interpolation.

Public: Gallery (app), GalleryRequest (request).
"""
