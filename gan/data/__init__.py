"""Images and tensors: datasets, their manifests, decoding, loading, and made-up paintings."""
