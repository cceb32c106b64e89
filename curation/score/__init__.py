"""Checks and scores of images, as columns of a manifest.

Public are check (`check`) and score (`score`) with request (`CheckRequest`, `ScoreRequest`), and what they compute:
image_checks, duplicates, density and discriminator_scores.
"""
