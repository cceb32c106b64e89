"""Train a StyleGAN2 painter and sample from it.

Public modules: config, dataset, manifest, decoding, images, generator, discriminator, losses, trainer, checkpoint,
snapshot, sampling, synthetic, errors. `gan.ops` holds the operators that the networks are made of.
This package imports none of its neighbours; they import it.
"""

__version__ = "0.1.0"
