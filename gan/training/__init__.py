"""The training loop, its step, losses, checkpoints, and the folder of a run."""
