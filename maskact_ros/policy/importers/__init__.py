"""Imports checkpoints of other projects as ours."""
