"""Generator, discriminator, their layers and their precision.

Public: generator.Generator, discriminator.Discriminator, precision.apply.
"""
