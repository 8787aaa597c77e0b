"""Where the review page finds the pictures of films: one rule for who writes them, moves them on and shows them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from crrg.ledger.beside import usual_name

_FILMS, _EVIDENCE = "films", "evidence"


def picture_name(instance_id: str) -> str:
    """Return where the page expects a film's picture, relative to itself."""
    return f"{_FILMS}/{instance_id}.png"


def evidence_name(instance_id: str) -> str:
    """Return where the page expects the maps of what a film's sentences rest on, relative to itself."""
    return f"{_EVIDENCE}/{instance_id}.png"


@dataclass(frozen=True)
class Pictures:
    """The pictures of a night's films.

    Attributes:
        folder: Where they lie, as seen from the page; beside it if empty.
        explained: Films, by ``instance_id``, that have maps of what their sentences rest on.
        elsewhere: Name of each picture that has not the usual one, by the usual one.
    """

    folder: str = ""
    explained: Container[str] = frozenset()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def film(self, instance_id: str) -> str:
        """Return where a film's picture lies."""
        return self._named(picture_name(instance_id))

    def evidence(self, instance_id: str) -> str | None:
        """Return where the maps of a film lie, or ``None`` where it has none."""
        return self._named(evidence_name(instance_id)) if instance_id in self.explained else None

    def _named(self, name: str) -> str:
        return f"{self.folder}{self.elsewhere.get(name, name)}"


NAMED_AS_USUAL = Pictures()
"""Pictures beside the page, none of which had to give way, and no maps."""


def find_pictures(keys: Iterable[str], folder: str = "") -> Pictures:
    """Return the pictures among the objects of a night.

    Args:
        keys: Keys of the objects.
        folder: Where the pictures lie, as seen from the page.
    """
    explained: set[str] = set()
    elsewhere: dict[str, str] = {}
    for key in keys:
        above, _, name = key.rpartition("/")
        kind = above.rpartition("/")[2]
        if kind not in (_FILMS, _EVIDENCE):
            continue
        usual = usual_name(name)
        if kind == _EVIDENCE:
            explained.add(usual.removesuffix(".png"))
        if usual != name:
            elsewhere[f"{kind}/{usual}"] = f"{kind}/{name}"
    return Pictures(folder, frozenset(explained), elsewhere)


def film_of(key: str) -> str:
    """Return the film, by ``instance_id``, that a key of such a picture is of; empty where it is of none."""
    above, _, name = key.rpartition("/")
    return usual_name(name).removesuffix(".png") if above.rpartition("/")[2] in (_FILMS, _EVIDENCE) else ""
