"""Foreign files decoded in limited child processes."""
