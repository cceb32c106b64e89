"""Projection: latents that make a generator show a given picture.

Public: search.search with request.SearchRequest finds ws; tuning.tune with request.TuningRequest fine-tunes the
generator around them. Both take the perceptual distance as an argument.
"""
