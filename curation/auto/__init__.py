"""Curation in one call: check, score and prune with defaults, and the page of a review.

Public is auto (`auto`) with request (`AutoRequest`).
"""
