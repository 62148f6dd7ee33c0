"""`maskact bench`: measures a machine's speed, and how late commands and pictures are on it."""
