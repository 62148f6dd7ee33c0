"""Is a dataset right, and what does it look like?"""
