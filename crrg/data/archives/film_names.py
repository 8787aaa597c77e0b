"""Which film a name in a table means: its path, the end of its path, or either without suffix.

A name that fits several films, none of them exactly, means none of them: a report must not reach the wrong person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class ByFilm(Generic[T]):
    """What tables say, by film."""

    def __init__(self, said: Mapping[str, T], films: Iterable[str]) -> None:
        """Find the films that are meant.

        Args:
            said: What is said, by the ``plain_name`` that a table gives a film.
            films: Keys of all films.
        """
        self._said = dict(said)
        self._film_of: dict[str, str | None] = {}
        for key in films:
            for name in _spellings(key):
                if name in self._said:
                    is_exact = name == key
                    self._film_of[name] = key if is_exact or name not in self._film_of else self._kept(name)
        self._names_of: dict[str, list[str]] = {}
        for name, film in self._film_of.items():
            if film is not None:
                self._names_of.setdefault(film, []).append(name)

    def of(self, key: str) -> list[T]:
        """Return all that is said of a film, empty where that is nothing."""
        return [self._said[name] for name in self._names_of.get(key, ())]

    def left(self) -> Iterator[tuple[str, T, bool]]:
        """Yield the name of what is said of no film, what is said, and whether the name fits several films."""
        for name, value in self._said.items():
            film = self._film_of.get(name, "")
            if not film:
                yield name, value, film is None

    def _kept(self, name: str) -> str | None:
        """Return the film of a name that another film answers to as well: the one that has exactly this name."""
        film = self._film_of[name]
        return film if film == name else None


def _spellings(key: str) -> Iterator[str]:
    parts = key.split("/")
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        yield name
        stem, dot, _ = name.rpartition(".")
        if dot and stem and not stem.endswith("/"):
            yield stem


def plain_name(name: str) -> str:
    """Return a name of a table as keys are written: slashes, no leading one."""
    return name.replace("\\", "/").removeprefix("./").lstrip("/")
