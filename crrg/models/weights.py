"""Weights from bytes into a network, the same way for every stage.

Knows safetensors and nothing of files or stores; where the bytes come from is the caller's concern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn

from crrg.config.base import FrozenConfig
from crrg.errors import ModelError

Network = TypeVar("Network", bound=nn.Module)
Architecture = TypeVar("Architecture", bound=FrozenConfig)


def load_network(
    build: Callable[[Architecture], Network],
    kind: type[Architecture],
    config: Mapping[str, Any],
    data: bytes,
    subject: str,
    device: torch.device,
) -> Network:
    """Build a network from its ``config.json`` and ``model.safetensors``, ready for inference.

    Args:
        build: Makes the network of an architecture.
        kind: Of the architecture.
        config: Content of ``config.json``.
        data: Content of ``model.safetensors``.
        subject: Named in errors.
        device: Where to put it.

    Raises:
        ModelError: The architecture is not valid, or the weights are damaged or do not fit it.
    """
    try:
        module = build(kind.model_validate(config["architecture"]))
    except (KeyError, ValidationError) as error:
        raise ModelError(f"config.json has no valid architecture: {error}", subject) from error
    load_module(module, data, subject)
    return module.to(device).eval()


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
