"""Tensors in, tensors out: the four networks. Knows no files and no loops."""
