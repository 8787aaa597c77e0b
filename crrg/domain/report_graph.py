"""A report as a graph: its words, the clinical entities among them, and the relations between entities.

Source: RadGraph (Jain et al., NeurIPS Datasets and Benchmarks 2021) and the form in which it publishes annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crrg.errors import ConfigError


@dataclass(frozen=True)
class Entity:
    """A clinical entity.

    Attributes:
        words: Its words in the report's own letters, a space between them.
        label: What it is, e.g. ``OBS-DP`` or ``Observation::definitely present``.
        start: Place of its first word among the report's.
        end: Place of its last word.
        relations: Kind of each relation that leaves it, and the place of the other entity in ``ReportGraph.entities``.
    """

    words: str
    label: str
    start: int
    end: int
    relations: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ReportGraph:
    """The entities of one report, in its order; none where it says nothing of the kind."""

    entities: tuple[Entity, ...] = ()


def graph_from_annotation(annotation: Mapping[str, Any]) -> ReportGraph:
    """Read one report of a published file of annotations.

    Args:
        annotation: ``{"entities": {"1": entity, …}}`` with entities of ``{"tokens", "label", "start_ix", "end_ix",
            "relations": [[kind, key], …]}``; further fields are not looked at.

    Raises:
        ConfigError: It has another form, or a relation leads to no entity.
    """
    try:
        entities = dict(annotation["entities"])
        places = {key: place for place, key in enumerate(entities)}
        return ReportGraph(
            tuple(
                Entity(
                    words=str(entity["tokens"]),
                    label=str(entity["label"]),
                    start=int(entity["start_ix"]),
                    end=int(entity["end_ix"]),
                    relations=tuple((str(kind), places[key]) for kind, key in entity["relations"]),
                )
                for entity in entities.values()
            )
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"a report is not in RadGraph's published form ({type(error).__name__}): `entities` by number, each with "
            "tokens, label, start_ix, end_ix and relations to numbers that are there",
            "annotations",
        ) from error
