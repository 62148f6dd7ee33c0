"""One training run, from datasets to a checkpoint."""
