"""A row of a dataset of which only labels and report matter."""

from __future__ import annotations

from crrg.domain.labels import LabelValues
from crrg.domain.report import Report
from crrg.domain.study import Pair, Split


def labelled(labels: LabelValues, report: str = "", label_source: str = "drawn") -> Pair:
    """Return a row without a film, with the findings section ``report`` where it is not empty."""
    told = Report(findings=report or None)
    return Pair("p", "s", "i", None, told, (), labels, label_source, "phantom", b"", Split.TEST)
