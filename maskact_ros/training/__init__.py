"""Trains policies on demonstrations, and measures their success rates."""
