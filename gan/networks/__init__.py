"""The generator and the discriminator of StyleGAN2."""
