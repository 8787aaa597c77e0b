"""Drafts sent to clinical systems under true identifiers, and taken back."""
