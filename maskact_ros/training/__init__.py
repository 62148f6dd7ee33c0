"""Demonstrations to a policy, and a policy to its rate of success."""
