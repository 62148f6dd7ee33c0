"""Measures a policy's success in the simulated task, and records demonstrations of it."""
