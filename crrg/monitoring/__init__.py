"""Drift of inputs and outputs, and nights that must not be published."""
