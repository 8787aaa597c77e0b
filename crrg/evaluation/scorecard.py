"""The quality of a model in one value: each figure with its interval and the baseline it has to beat.

Knows no metric: whoever scores puts figures in, whoever shows or gates takes them out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from crrg.evaluation.published import PublishedTable, published_markdown

FIGURES_VERSION = 9
"""Raised when evaluations gain figures, or make them otherwise: a scorecard of an earlier number is made again."""
TABLE_COLUMNS = ("figure", "value", "low", "high", "baseline", "baseline value", "margin")


@dataclass(frozen=True)
class Figure:
    """One figure of a scorecard.

    Attributes:
        name: Family and metric, e.g. ``rgrg/bleu_4``.
        value: The model's value.
        low: Lower end of the 95 % interval, or ``None``, which it becomes where it is NaN, as for too few patients.
        high: Upper end, likewise.
        baseline_name: What the value is compared with, or an empty string.
        baseline: The baseline's value on the same films, or ``None``, which it becomes where it is not finite.
        is_detail: Whether it is of one region or one label, to be shown below the others.
        lower_is_better: Whether less is better, as for an error.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    baseline_name: str = ""
    baseline: float | None = None
    is_detail: bool = False
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        """Leave out ends of an interval, and a baseline, that could not be found."""
        for part in ("low", "high", "baseline"):
            object.__setattr__(self, part, _plain(getattr(self, part)))

    @property
    def margin(self) -> float | None:
        """How much better the value is than the baseline, below 0 where it is worse; ``None`` without a baseline."""
        if self.baseline is None:
            return None
        return self.baseline - self.value if self.lower_is_better else self.value - self.baseline


@dataclass(frozen=True)
class Scorecard:
    """Figures of one model on one set of films.

    Attributes:
        figures: In the order in which they are shown; a name may stand several times with different baselines.
        num_studies: Number of studies that were scored.
        subject: What was scored on what, in our own ids, e.g. a bundle id and a dataset version; ``archives`` names the
            kinds of archive of the films.
        published: Published figures of others, shown in a section of their own.
        remarks: What a reader must know of the figures before reading them, a line each: baselines that are left out,
            films that the model has seen.
        is_held_out: Whether the model has seen none of the films in training, as far as that is known.
        num_left_out: Films that were left out, since the model has seen them.
    """

    figures: tuple[Figure, ...]
    num_studies: int = 0
    subject: Mapping[str, str] = field(default_factory=dict)
    published: tuple[PublishedTable, ...] = ()
    remarks: tuple[str, ...] = ()
    is_held_out: bool = True
    num_left_out: int = 0

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; figures that are not finite become ``None``."""
        figures = [{key: _plain(value) for key, value in asdict(figure).items()} for figure in self.figures]
        return {
            "figures_version": FIGURES_VERSION,
            "figures": figures,
            "num_studies": self.num_studies,
            "subject": dict(self.subject),
            "remarks": list(self.remarks),
            "is_held_out": self.is_held_out,
            "num_left_out": self.num_left_out,
            "published": [table.to_dict() for table in self.published],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scorecard:
        """Build a scorecard from what ``to_dict`` returned."""
        figures = tuple(
            Figure(**{**item, "value": float("nan") if item["value"] is None else item["value"]})
            for item in values["figures"]
        )
        published = tuple(PublishedTable.from_dict(table) for table in values.get("published", ()))
        return cls(
            figures,
            int(values["num_studies"]),
            dict(values["subject"]),
            published,
            remarks=tuple(values.get("remarks", ())),
            is_held_out=bool(values.get("is_held_out", True)),
            num_left_out=int(values.get("num_left_out", 0)),
        )

    def to_table(self) -> dict[str, list[str | float | None]]:
        """Return the figures as columns of a table, as trackers show them; what is not finite becomes ``None``."""
        rows = [
            (each.name, each.value, each.low, each.high, each.baseline_name, each.baseline, each.margin)
            for each in self
        ]
        return {name: [_plain(row[place]) for row in rows] for place, name in enumerate(TABLE_COLUMNS)}

    def published_table(self) -> dict[str, list[str | float | None]]:
        """Return the published figures as columns of a table, each row with its protocol and data."""
        rows = [
            (row.system, name, value, table.protocol, table.data, table.source)
            for table in self.published
            for row in table.rows
            for name, value in row.figures.items()
        ]
        columns = ("system", "figure", "value", "protocol", "data", "source")
        return {name: [row[place] for row in rows] for place, name in enumerate(columns)}

    def to_markdown(self, only: Collection[str] = ()) -> str:
        """Return the table ``figure | value | interval | baseline | baseline value | margin``.

        Args:
            only: Names of the figures to show, without remarks. Where none is given all are shown below the remarks,
                those of single regions and labels, and published ones, in sections of their own.
        """
        if only:
            return _table([figure for figure in self.figures if figure.name in only])
        parts = ["\n".join(f"- {remark}" for remark in self.remarks)] if self.remarks else []
        parts += [_table([figure for figure in self.figures if not figure.is_detail])]
        if details := [figure for figure in self.figures if figure.is_detail]:
            parts += ["## By region and label", _table(details)]
        if self.published:
            parts.append(published_markdown(self.published, self.subject.get("archives", "").split(", ")))
        return "\n\n".join(parts)


def _table(figures: Sequence[Figure]) -> str:
    lines = [
        "| figure | value | interval | baseline | baseline value | margin |",
        "| --- | ---: | :---: | --- | ---: | ---: |",
    ]
    for figure in figures:
        interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f} to {figure.high:.3f}"
        baseline = "" if figure.baseline is None else f"{figure.baseline:.3f}"
        margin = "" if figure.margin is None else f"{figure.margin:+.3f}"
        cells = (figure.name, f"{figure.value:.3f}", interval, figure.baseline_name, baseline, margin)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
