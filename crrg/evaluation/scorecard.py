"""The quality of a model in one value: each figure with its interval and the baseline it has to beat.

Knows no metric: whoever scores puts figures in, whoever shows or gates takes them out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure of a scorecard.

    Attributes:
        name: Family and metric, e.g. ``rgrg/bleu_4``.
        value: The model's value.
        low: Lower end of the 95 % interval, or ``None``.
        high: Upper end, or ``None``.
        baseline_name: What the value is compared with, or an empty string.
        baseline: The baseline's value on the same films, or ``None``.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    baseline_name: str = ""
    baseline: float | None = None

    @property
    def margin(self) -> float | None:
        """Value minus baseline; ``None`` without a baseline."""
        return None if self.baseline is None else self.value - self.baseline


@dataclass(frozen=True)
class Scorecard:
    """Figures of one model on one set of films.

    Attributes:
        figures: In the order in which they are shown; a name may stand several times with different baselines.
        num_studies: Number of studies that were scored.
        subject: What was scored on what, in our own ids, e.g. a bundle id and a dataset version.
    """

    figures: tuple[Figure, ...]
    num_studies: int = 0
    subject: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Figure]:
        """Yield the figures."""
        return iter(self.figures)

    def __getitem__(self, name: str) -> float:
        """Return the value of a figure by name; ``KeyError`` where it is missing."""
        for figure in self.figures:
            if figure.name == name:
                return figure.value
        raise KeyError(name)

    @property
    def metrics(self) -> dict[str, float]:
        """Values by name, the first of each, as a tracker or a gate wants them; without values that are not finite."""
        values: dict[str, float] = {}
        for figure in self.figures:
            if math.isfinite(figure.value):
                values.setdefault(figure.name, figure.value)
        return values

    @property
    def margins(self) -> dict[str, float]:
        """Smallest margin over the baselines by name, only of figures that have a baseline."""
        margins: dict[str, float] = {}
        for figure in self.figures:
            if figure.margin is not None:
                margins[figure.name] = min(figure.margin, margins.get(figure.name, math.inf))
        return margins

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; figures that are not finite become ``None``."""
        figures = [{key: _plain(value) for key, value in asdict(figure).items()} for figure in self.figures]
        return {"figures": figures, "num_studies": self.num_studies, "subject": dict(self.subject)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scorecard:
        """Build a scorecard from what ``to_dict`` returned."""
        figures = tuple(
            Figure(**{**item, "value": float("nan") if item["value"] is None else item["value"]})
            for item in values["figures"]
        )
        return cls(figures, int(values["num_studies"]), dict(values["subject"]))

    def to_markdown(self) -> str:
        """Return the table ``figure | value | interval | baseline | baseline value | margin``."""
        lines = [
            "| figure | value | interval | baseline | baseline value | margin |",
            "| --- | ---: | :---: | --- | ---: | ---: |",
        ]
        for figure in self.figures:
            interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f} to {figure.high:.3f}"
            baseline = "" if figure.baseline is None else f"{figure.baseline:.3f}"
            margin = "" if figure.margin is None else f"{figure.margin:+.3f}"
            cells = (figure.name, f"{figure.value:.3f}", interval, figure.baseline_name, baseline, margin)
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
