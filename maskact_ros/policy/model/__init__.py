"""The network for training, and its losses."""
