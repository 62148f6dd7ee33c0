"""Benchmarks of this package against baselines: `python -m benchmarks`. Not installed."""
