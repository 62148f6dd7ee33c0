"""What all nodes share: lifecycle, parameters, diagnostics, signs of life, messages as bytes."""
