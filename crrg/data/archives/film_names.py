"""Which film a name in a table means: its path, the end of its path, or either without suffix.

A name that no film has as it is written is compared in its composed Unicode form, since some systems write an accent as
a character of its own, and then without regard to case. A name that fits several films, none of them exactly, means
none of them: a report must not reach the wrong person.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
        keys = list(films)
        self._film_of = _find_films(self._said, keys, str)
        # two names that a table tells apart by case alone are those of two files
        num_alike = Counter(map(_without_case, self._said))
        for spelling in (_composed, _without_case):
            left = [name for name in self._said if name not in self._film_of]
            if spelling is _without_case:
                left = [name for name in left if num_alike[_without_case(name)] == 1]
            self._film_of |= _find_films(left, keys, spelling)
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


def _find_films(names: Collection[str], keys: Iterable[str], spelling: Callable[[str], str]) -> dict[str, str | None]:
    """Return the film of each name that films answer to, ``None`` where these are several.

    Args:
        names: Names of a table.
        keys: Keys of all films.
        spelling: How names are written to be compared.
    """
    if not names:
        return {}
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(spelling(name), []).append(name)
    found: dict[str, set[str]] = {}
    for key in keys:
        for name in _spellings(spelling(key)):
            if name in alike:
                found.setdefault(name, set()).add(key)
    films: dict[str, str | None] = {}
    for name, candidates in found.items():
        meant = {key for key in candidates if spelling(key) == name} or candidates
        films |= dict.fromkeys(alike[name], meant.pop() if len(meant) == 1 else None)
    return films


def _spellings(key: str) -> Iterator[str]:
    parts = key.split("/")
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        yield name
        stem, dot, _ = name.rpartition(".")
        if dot and stem and not stem.endswith("/"):
            yield stem


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _without_case(name: str) -> str:
    return _composed(_composed(name).casefold())


def plain_name(name: str) -> str:
    """Return a name of a table as keys are written: slashes, no leading one."""
    return name.replace("\\", "/").removeprefix("./").lstrip("/")
