"""Writes config/maskact.yaml and docs/reference/ from the declarations in the package: `python -m reference`."""
