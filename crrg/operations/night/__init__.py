"""One night from plan to manifest, and what is asked of committed nights afterwards."""
