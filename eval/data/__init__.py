"""Where images and features come from.

image_sources, snapshot_source    images by index: of a dataset, files, an iterator, a generator
decoding                          image files decoded by processes
feature_cache                     features_of, cached: an image goes through a network once
thumbnails, reference             small images for reports; statistics of the real images
"""
