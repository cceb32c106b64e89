"""Features of images by pretrained networks.

extractor     load_extractor: a network by name, with its weights, preprocessing, precision and backend
registry      the networks, and register for more
preprocess    the ways to bring images to a network's size
"""
