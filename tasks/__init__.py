"""One task per library call: retry, name, GPU slot and ids; no logic (``flows/`` order them, ``crrg`` does it)."""
