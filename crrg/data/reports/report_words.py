"""A report cut into words as RadGraph reads it; where a cut falls moves its figures.

Source: text preparation of the radgraph package, version 0.1.18, by its rules and order. No line of its code.
"""

from __future__ import annotations

import re
from typing import Literal

WordStyle = Literal["radgraph", "radgraph-xl"]
_MARK = r"[/,:.!?()]"
"""Marks that RadGraph sets apart; a hyphen stays in its word."""
_BESIDE_MARK = re.compile(rf"(?<! )(?={_MARK})|(?<={_MARK})(?! )")
_RUN = re.compile(r"\w+|[^\w\s]+")
_ESCAPES = (("\\n", " "), ("\\f", " "), ("\\u2122", " "), ('\\"', "``"))
"""Of RadGraph-XL: what was left of JSON in its reports."""
_PARTED = ((").", ") ."), ("%.", "% ."), (".'", ". '"), ("%,", "% ,"), ("%)", "% )"))
"""Of RadGraph-XL, in this order: a run of marks that is cut in two."""


def report_words(text: str, style: WordStyle) -> list[str]:
    """Return the words of a report, in its own letters.

    Args:
        text: Report.
        style: ``radgraph`` sets single marks apart, hyphens excepted; ``radgraph-xl`` cuts between letters and runs of
            marks, hyphens included.
    """
    if style == "radgraph":
        return _BESIDE_MARK.sub(" ", text).split()
    for escape, meaning in _ESCAPES:
        text = text.replace(escape, meaning)
    text = " ".join(_RUN.findall(text))
    for run, parted in _PARTED:
        text = text.replace(run, parted)
    return text.split()
