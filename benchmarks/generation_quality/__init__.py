"""What ``benchmarks.quality_generation`` measures, piece by piece."""
