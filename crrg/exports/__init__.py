"""One file per form in which a reader wants a night: Parquet, documents, review page."""
