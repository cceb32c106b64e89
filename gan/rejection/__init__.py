"""Rejection sampling by the discriminator: acceptance, calibration, choice of seeds."""
