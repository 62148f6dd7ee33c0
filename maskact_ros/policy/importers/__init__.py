"""Other people's checkpoints, as checkpoints of ours."""
