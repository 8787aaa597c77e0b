"""Films whose patient's name is written in the character sets that archives hold."""

from __future__ import annotations

import warnings

from tests.support.delivered_night import NAME, film_bytes

_KANJI = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
_HANGUL = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
_HANZI = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="
NAMES: dict[tuple[str, ...], bytes] = {
    (): b"Mueller^Joerg",
    ("",): b"Mueller^Joerg",
    ("ISO_IR 6",): b"Mueller^Joerg",
    ("ISO_IR 100",): "Müller^Jörg".encode("latin1"),
    ("ISO-IR 100",): "Müller^Jörg".encode("latin1"),
    ("ISO 2022 IR 100",): "Müller^Jörg".encode("latin1"),
    ("ISO_IR 192",): "Müller^Jörg=山田^太郎".encode(),
    ("ISO_IR 13",): b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3",
    ("ISO_IR 166",): b"\xb9\xd2",
    ("", "ISO 2022 IR 87"): _KANJI,
    ("ISO 2022 IR 6", "ISO 2022 IR 87"): _KANJI,
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): _KANJI,
    ("", "ISO 2022 IR 149"): _HANGUL,
    ("ISO 2022 IR 149",): _HANGUL,
    ("", "ISO 2022 IR 58"): _HANZI,
    ("GB18030",): "王^小东".encode("gb18030"),
    ("GBK",): "王^小东".encode("gbk"),
}
"""Values of SpecificCharacterSet, none where it is absent, and a name in them."""
STANDARD: dict[tuple[str, ...], tuple[str, ...]] = {
    ("",): (),
    ("ISO_IR 6",): (),
    ("ISO-IR 100",): ("ISO_IR 100",),
    ("ISO 2022 IR 100",): ("ISO_IR 100",),
    ("ISO 2022 IR 149",): ("", "ISO 2022 IR 149"),
}
"""How the standard says those that say it otherwise."""


def named_film(character_set: tuple[str, ...], study: str = "5") -> bytes:
    """Return a film whose patient's name is written in a character set."""
    name = NAMES[character_set]
    said = {"SpecificCharacterSet": list(character_set)} if character_set else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of names of sets that are not the standard's
        data = film_bytes(1, study, f"{study}1", **said)
    start = data.index(b"\x10\x00\x10\x00PN")
    end = start + 8 + len(NAME) + len(NAME) % 2
    padded = name + b" " * (len(name) % 2)
    return data[: start + 6] + len(padded).to_bytes(2, "little") + padded + data[end:]
