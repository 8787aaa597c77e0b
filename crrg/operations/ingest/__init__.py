"""Archives in, dataset versions out."""
