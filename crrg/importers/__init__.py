"""Published checkpoints to our layout: strict, from safe torch archives only, with a report of every key."""
