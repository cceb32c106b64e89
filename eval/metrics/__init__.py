"""Metrics, one a file: features or statistics in, an estimate with its interval out. No input or output here.

confidence_intervals    Estimate, and the jackknife, the bootstrap and closed forms
feature_stats           Moments and Features, which need no memory for all features at once
neighbours              the one search for nearest neighbours
on_device               what neighbours, kernel and precision_recall compute of all pairs, on a GPU
"""
