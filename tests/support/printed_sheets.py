"""What lies where on the sheets that Chromium prints: its rectangles and lines of text, read from the PDF itself.

Source: ISO 32000-1, 8.3.4 (``cm``), 8.5.2 (``re``), 9.4 (text), as Skia writes them.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

_STREAM = re.compile(rb"stream\r?\n(.*?)endstream", re.DOTALL)


class Rectangle(NamedTuple):
    """A filled rectangle: its colour, red, green, blue of 0..1, and its edges from the top of the sheet."""

    colour: tuple[float, ...]
    top: float
    bottom: float


@dataclass
class Sheet:
    """One printed sheet; heights from its top, in its own units.

    Attributes:
        rectangles: What is filled, in order.
        texts: Base line and text colour of every piece of text.
    """

    rectangles: list[Rectangle] = field(default_factory=list)
    texts: list[tuple[float, tuple[float, ...]]] = field(default_factory=list)


def read_sheets(pdf: bytes) -> list[Sheet]:
    """Return the sheets of a PDF that Chromium printed, in order."""
    sheets = []
    for found in _STREAM.finditer(pdf):
        try:
            content = zlib.decompress(found[1])
        except zlib.error:
            continue
        if b" Tf" in content and b" cm" in content:
            sheets.append(_read(content.decode("latin-1")))
    return sheets


def _read(content: str) -> Sheet:
    """Follow scale and offset down the sheet; the first ``cm`` only turns Skia's axis and scales its units."""
    sheet = Sheet()
    scale, offset, colour = 1.0, 0.0, (0.0,)
    kept: list[tuple[float, float]] = []
    lines = content.splitlines()
    for line in lines[1:]:
        words = line.split()
        name = words[-1] if words else ""
        if name == "q":
            kept.append((scale, offset))
        elif name == "Q":
            scale, offset = kept.pop()
        elif name == "cm":
            numbers = [float(each) for each in words[-7:-1]]
            scale, offset = scale * numbers[3], offset + scale * numbers[5]
        elif name == "rg":
            colour = tuple(float(each) for each in words[-4:-1])
        elif name == "re":
            top, height = float(words[-4]), float(words[-2])
            sheet.rectangles.append(Rectangle(colour, offset + scale * top, offset + scale * (top + height)))
        elif name == "Tm":
            sheet.texts.append((offset + scale * float(words[-2]), colour))
    return sheet
