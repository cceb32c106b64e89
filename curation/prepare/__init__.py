"""From a collection of images to a dataset with its manifest.

Public are pipeline (`collect`) with request (`PrepareRequest`), dataset_info and wikiart (`WikiArt`).
"""
