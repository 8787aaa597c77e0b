"""Stages trained, one or together, and what they learn from."""
