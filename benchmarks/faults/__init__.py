"""Nights under faults: what goes wrong, and how each case is judged."""
