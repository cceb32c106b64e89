"""Serving of a generator: ONNX export, a Triton server, a client, a gallery, a style check, and the whole pipeline.

Public: contract (kinds of models, their tensors, ModelMetadata), and the rooms
export    a snapshot -> a version of its models in a model repository
server    a running Triton: installed, started, stopped, deployed
client    Client: seeds -> images, images -> styles
gallery   the web gallery
project   pictures -> latents of a generator
style     the style classifier and the style check
pipeline  dataset, training, evaluation, curation, export and checks from one file
"""
