"""Rejection sampling by the discriminator.

Public: select_seeds.choose with request.SelectionRequest; algorithms and calibration, which take logits alone;
discriminator_logits.DiscriminatorLogits; keep_training.
"""
