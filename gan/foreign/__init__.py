"""StyleGAN2 weights of other implementations, read without executing anything in their files.

Public: convert.read and convert.build.
"""
