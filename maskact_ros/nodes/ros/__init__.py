"""Shared by all nodes: lifecycle, parameters, diagnostics, signs of life, messages as bytes."""
