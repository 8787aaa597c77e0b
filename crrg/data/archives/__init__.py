"""One module for each kind of archive, and how their tables and small files are read."""
