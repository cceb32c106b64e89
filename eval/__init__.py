"""Judge a generator against a dataset. Its modules come with the evaluation command."""
