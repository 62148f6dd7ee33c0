"""Other people's datasets, as datasets of ours."""
