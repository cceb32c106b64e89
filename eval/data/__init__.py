"""Where images and features come from.

image_sources, files_source, array_source, snapshot_source
                                  images by index: of a dataset or an iterator, files, an array, a generator
decoding                          image files decoded by processes
feature_cache                     features_of, cached: an image goes through a network once
thumbnails, reference             small images for reports; statistics of the real images
"""
