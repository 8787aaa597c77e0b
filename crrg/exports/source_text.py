"""Texts of a source's header as bytes: which character set they are in, and where the first of several values ends.

Documents carry names and identifiers as the source wrote them. Decoding and encoding them again would lose what a
library does not know, and would change escape sequences. Knows no document.

Source: DICOM PS3.3 C.12.1.1.2 (Specific Character Set), PS3.5 sections 6.1.2.5 and 6.2.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_DEFAULT = "ISO_IR 6"
"""The default repertoire, which the standard has no such name for: an object states it by an empty value, or none."""
_EXTENDING = ("ISO 2022 IR 58", "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO 2022 IR 159")
"""Sets of several bytes per character, which do not stand alone."""
_CHINESE = ("GB18030", "GBK")
_SPELLING = re.compile(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?(\d+)")
_FIRST = re.compile(rb"(?:\x1b\$(?:[@B]|\(D)[^\x1b]*|[^\\])*")
"""Up to the first backslash; one between these escape sequences is half of a Japanese character."""
_FIRST_CHINESE = re.compile(rb"(?:[\x81-\xfe].|[^\\])*", re.DOTALL)
"""Likewise, where the second byte of a character may be a backslash."""
_SPELLED = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u201a\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u2033", '"')
    | dict.fromkeys("\u00b5\u03bc", "u")
    | {"\u2265": ">=", "\u2264": "<=", "\u2260": "!=", "\u00d7": "x", "\u00b0": " deg", "\u00b1": "+/-"}
    | {"\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4", "\u00df": "ss", "\u2192": "->", "\u2022": "-"}
    | {sign: f"^{power}" for power, sign in enumerate("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")}
)
"""Dashes, quotes and signs that reports have; powers and fractions would otherwise run into the number before them."""
_OVERLAY = 1
"""Combining class of marks drawn through a character."""


def standard_character_set(said: Sequence[str]) -> list[str]:
    """Return a source's character sets as the standard names them.

    Args:
        said: Values of the source's SpecificCharacterSet; a name that is not known stays as it is.

    Returns:
        Names, the first empty where sets extend the default repertoire; none where that alone is meant.
    """
    names = [_standard_name(name.strip()) for name in said]
    if len(names) == 1:
        # the names of extensions mean the same sets, but validators know them only beside another one
        names = ["", *names] if names[0] in _EXTENDING else [names[0].replace("ISO 2022 IR", "ISO_IR")]
    return [] if set(names) <= {"", _DEFAULT} else names


def first_value(data: bytes, character_set: Iterable[str]) -> bytes:
    """Return the first of several values, without padding.

    Args:
        data: A text of a header, its values parted by backslashes.
        character_set: What it is written in.
    """
    first = _FIRST_CHINESE if set(character_set) & set(_CHINESE) else _FIRST
    found = first.match(data)
    return (found[0] if found else b"").strip(b" \0")


def plain_text(text: str) -> str:
    """Return a text in the default repertoire, which every character set has.

    Usual signs are spelled, so that none looks like a question mark that somebody wrote, and letters lose their marks;
    of what is left each character becomes a question mark.
    """
    parts = unicodedata.normalize("NFKD", text.translate(_SPELLED))
    # an overlay stays: it turns = into its opposite
    letters = (each for each in parts if unicodedata.combining(each) <= _OVERLAY)
    return "".join(letters).encode("ascii", "replace").decode()


def _standard_name(name: str) -> str:
    found = _SPELLING.fullmatch(name.upper())
    if found is None:
        return name
    return f"ISO 2022 IR {found[2]}" if found[1] else "" if found[2] == "6" else f"ISO_IR {found[2]}"
