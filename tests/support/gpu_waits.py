"""What a GPU would be waited for: operations whose answer the processor needs before it can go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ("nonzero", "_local_scalar_dense", "masked_select", "repeat_interleave", "unique", "nms")


class GpuWaits(TorchDispatchMode):
    """Counts within its block the operations that would wait for a GPU, by name; ``mask`` is indexing by a mask.

    ``Tensor.tolist`` goes unseen on a CPU.

    Attributes:
        counts: How many there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__  # type: ignore[attr-defined]
        if name == "index" and any(isinstance(each, Tensor) and each.dtype == torch.bool for each in args[1]):
            self.counts["mask"] += 1
        if name in WAITS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))
