"""Names of the training states in a stage's folder; knows no tensors, so that whoever tidies up needs no torch."""

from __future__ import annotations

NUM_STATES_KEPT = 2


def weights_key(state_key: str) -> str:
    """Return the key of the tensors of a training state, given that of its JSON."""
    return f"{state_key.removesuffix('.json')}.safetensors"
