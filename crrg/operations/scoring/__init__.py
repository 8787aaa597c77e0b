"""Drafts scored against what is known of their films."""
