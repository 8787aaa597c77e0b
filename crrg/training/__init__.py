"""Joins data and models: the stages, and the one training loop."""
