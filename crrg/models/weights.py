"""Weights from bytes into a network, the same way for every stage.

Knows safetensors and nothing of files or stores; where the bytes come from is the caller's concern.
"""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn

from crrg.errors import ModelError


def load_module(module: nn.Module, data: bytes, subject: str) -> None:
    """Load safetensors into a network, strictly.

    Args:
        module: Network that receives the weights.
        data: Content of ``model.safetensors``.
        subject: Stage named in the error.

    Raises:
        ModelError: The bytes are damaged, or names or shapes do not fit the architecture.
    """
    try:
        module.load_state_dict(load_tensors(data), strict=True)
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"the weights do not fit the architecture: {str(error)[:400]}", subject) from error
