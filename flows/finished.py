"""What a flow has published: its server may fail it afterwards, which does not make it unpublished.

A flow keeps its result as soon as it stands; the process that runs it reads it where the server is gone by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_kept: ContextVar[list[Any] | None] = ContextVar("kept", default=None)


@contextmanager
def keeping() -> Iterator[list[Any]]:
    """Yield the list that results of the flows that run meanwhile are put in, in order."""
    results: list[Any] = []
    token = _kept.set(results)
    try:
        yield results
    finally:
        _kept.reset(token)


def keep(result: Any) -> None:
    """Keep what was published; does nothing where nobody asked for it."""
    results = _kept.get()
    if results is not None:
        results.append(result)
