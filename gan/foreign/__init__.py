"""Reading other implementations' checkpoints, without executing them."""
