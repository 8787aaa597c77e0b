"""Dataset versions: the Parquet contract, its writers and readers."""
