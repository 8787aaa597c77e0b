"""Parts of the measurement of a night."""
