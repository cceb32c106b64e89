"""Augmentation of the discriminator's images: ADA, its pipeline, and DiffAugment.

Public: ada.Augmentation, as a TrainingConfig asks for it; pipeline.AugmentPipe; diffaugment.diff_augment.
"""
