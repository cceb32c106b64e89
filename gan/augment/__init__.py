"""Augmentation of what the discriminator sees: ADA, its pipeline, and DiffAugment."""
