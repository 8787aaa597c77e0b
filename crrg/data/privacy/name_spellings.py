"""A person's name as it may stand in a report: other readings of its bytes, and other spellings of its letters.

Headers often declare the wrong character set or none, and hold a name without its accents where a report has them. Both
only ever add to what is masked. Knows no report and no mask; see ``person_masks``.

Source: DICOM PS3.5 6.1.2 (character repertoires).
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from functools import cache, lru_cache

_ESCAPED_READINGS = ("iso2022_jp_2", "iso2022_kr")
_TWO_LETTERS = {"ae": "äæ", "oe": "öøœ", "ue": "ü", "ss": "ß", "aa": "å"}
"""How names are written where a letter is not to be had."""
_ONE_LETTER = {letter: pair for pair, letters in _TWO_LETTERS.items() for letter in letters}
_ALPHABETS = (range(0xC0, 0x250), range(0x370, 0x530), range(0x1E00, 0x2000))
_STROKED = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "ħ": "h"}
"""Letters whose stroke or dot is no mark of its own in Unicode."""


def readings_of_names(as_declared: list[str], raw: bytes | None) -> list[str]:
    """Return every text that the bytes of a tag of names may stand for, the declared one first.

    What is legal UTF-8 and no ASCII is hardly ever meant otherwise; Latin-1 is what is left where nothing else fits.

    Args:
        as_declared: The names by the character set that the header declares.
        raw: The bytes of all of them; without them nothing is added.
    """
    is_escaped = any("\x1b" in name for name in as_declared)
    if raw is None or (raw.isascii() and not is_escaped):
        return as_declared
    found = [name for name in as_declared if "\x1b" not in name and "\ufffd" not in name]
    for encoding in _ESCAPED_READINGS if is_escaped else ("utf-8",):
        with contextlib.suppress(UnicodeDecodeError):
            found.append(raw.decode(encoding))
    return found or [raw.decode("latin-1")]


@lru_cache(maxsize=64)
def names_pattern(parts: tuple[str, ...], *, in_ascii: bool) -> re.Pattern[str]:
    """Return what finds parts of names as words, with and without accents: ``MUELLER`` for Müller and the reverse.

    Args:
        parts: At least one, letters alone; longer ones first.
        in_ascii: Whether the text has no accents, in which case the pattern is made several times as fast.
    """
    spellings = "|".join(_spelling(part, in_ascii=in_ascii) for part in parts)
    return re.compile(rf"\b(?:{spellings})\b", re.IGNORECASE)


def _spelling(part: str, *, in_ascii: bool) -> str:
    # a dotted I in lower case is two signs, of which the second is no letter
    letters = "".join(c for c in unicodedata.normalize("NFC", part).lower() if not unicodedata.combining(c))
    variants = {} if in_ascii else _letters_by_base()
    pattern, place = "", 0
    while place < len(letters):
        letter, pair = letters[place], letters[place : place + 2]
        base = _base(letter)
        own = f"[{base}{letter}{variants.get(base, '')}]"
        if pair in _TWO_LETTERS and not in_ascii:
            after = _base(pair[1])
            own = f"(?:{own}[{after}{variants.get(after, '')}]|[{_TWO_LETTERS[pair]}])"
            place += 1
        elif letter in _ONE_LETTER:
            own = f"(?:{own}|{_ONE_LETTER[letter]})"
        pattern, place = pattern + own, place + 1
    return pattern


@cache
def _letters_by_base() -> dict[str, str]:
    found: dict[str, str] = {}
    for letter in (chr(code) for alphabet in _ALPHABETS for code in alphabet):
        base = _base(letter)
        if letter.isalpha() and letter.islower() and base != letter and len(base) == 1 and base.isalpha():
            found[base] = found.get(base, "") + letter
    return found


@cache
def _base(letter: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFD", letter) if not unicodedata.combining(c))
    return _STROKED.get(plain, plain) if len(plain) == 1 else letter
