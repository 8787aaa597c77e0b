"""Whether, and how finely, drafts show which parts of the film their sentences rest on."""

from __future__ import annotations

from pydantic import Field

from crrg.config.base import FrozenConfig

SENTENCES_SHOWN = 6
"""Sentences of a film that are explained where evidence is asked for without a number."""


class EvidenceSettings(FrozenConfig):
    """Maps of the film that show what sentences rest on; each film is read once per cell, hence off by default.

    Attributes:
        max_sentences: Most sentences of a film that get a map, abnormal ones first; 0 makes none.
        cells: Cells of a map per side of the film.
        patch: Side of the hidden patch around a cell's centre, in cells; above 1 neighbours overlap.
    """

    max_sentences: int = Field(
        0, ge=0, le=29, title="Most explained sentences of a film (0 = none)", json_schema_extra={"position": 0}
    )
    cells: int = Field(8, ge=2, le=32, title="Cells per side", json_schema_extra={"position": 1})
    patch: float = Field(1.5, ge=1, le=4, title="Hidden patch (cells)", json_schema_extra={"position": 2})

    @property
    def is_on(self) -> bool:
        """Whether any sentence is explained."""
        return self.max_sentences > 0

    def switched_on(self) -> EvidenceSettings:
        """Return the same settings with sentences explained: as many as they say, else the usual number."""
        return self if self.is_on else self.model_copy(update={"max_sentences": SENTENCES_SHOWN})
