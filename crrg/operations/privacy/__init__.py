"""Pseudonyms, their secret, and what is kept of patients for how long."""
