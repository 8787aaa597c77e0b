"""Pieces of ``benchmarks.quality_classification``."""
