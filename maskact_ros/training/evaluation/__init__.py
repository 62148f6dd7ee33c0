"""How often a policy solves the simulated task, and the demonstrations it learns from."""
