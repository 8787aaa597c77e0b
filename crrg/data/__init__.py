"""Files in, values out: readers of films, reports and archives, and the Parquet contract. Knows no models."""
