"""The network and its losses, as it is trained."""
