"""What is new, who holds the night, what was committed."""
