"""`maskact bench`: what a machine can do, and how late commands and pictures are on it."""
