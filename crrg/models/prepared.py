"""Keeps what was made from a module's weights, until the weights change.

Inference wants weights in another form (folded, packed, rounded) than training stores. Such copies belong to no state
dict: they are made when first needed, and made again after the weights were loaded, moved or trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from torch import Tensor

Made = TypeVar("Made")


class Prepared(Generic[Made]):
    """One such copy; a deep copy or a pickle of its owner starts without it."""

    def __init__(self) -> None:
        """Start with nothing made."""
        self._key: tuple[tuple[int, int], ...] = ()
        self._made: Made | None = None

    def get(self, tensors: Iterable[Tensor], make: Callable[[], Made]) -> Made:
        """Return what ``make`` returned last, or make it anew where one of ``tensors`` has changed since.

        Args:
            tensors: Everything that ``make`` reads; at least one.
            make: Makes the copy.
        """
        key = tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
        if self._made is None or key != self._key:
            self._made, self._key = make(), key
        return self._made

    def __deepcopy__(self, memo: dict[int, object]) -> Prepared[Made]:
        """Return an empty one."""
        return Prepared()

    def __reduce__(self) -> tuple[type[Prepared[Made]], tuple[()]]:
        """Leave the copy out of a pickle."""
        return Prepared, ()
