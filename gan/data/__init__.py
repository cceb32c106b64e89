"""Images and tensors: datasets, their manifests, decoding, loading, and synthetic paintings.

Public: dataset.ImageDataset, collection.Collection (a dataset with its manifest), manifest.Manifest with read and
write, images (pixels to tensors and back, tiling, encoding), decode.decode, classes (by name and index).
"""
