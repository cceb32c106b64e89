"""StyleGAN2 weights of other implementations, read without executing anything in their files, and written for them.

Public: convert.read, convert.build and write.write.
"""
