"""Names of headers that reports spell otherwise, or that headers hold in another character set than they declare."""

from __future__ import annotations

import unicodedata

import pytest

from crrg.data.dicom.film import read_dicom_film
from crrg.data.privacy.person_masks import check_masked, mask_text
from tests.support.dicom_builder import build_dicom

PLACE = "A" * 40


def masked(text: str, name: bytes, charset: str | None) -> str:
    """Return a report's text, masked by a header that holds these bytes as its patient's name."""
    data = build_dicom(PatientName=PLACE, SpecificCharacterSet=charset)
    film = read_dicom_film(data.replace(PLACE.encode(), name.ljust(40)), 64)
    assert film.header is not None
    check_masked(text, film.header.names)
    return mask_text(text, film.header.names)


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("Müller^Jörg".encode("latin-1"), "ISO_IR 100"),
        ("Müller^Jörg".encode("latin-1"), None),
        ("Müller^Jörg".encode("latin-1"), "ISO_IR 192"),
        ("Müller^Jörg".encode(), "ISO_IR 192"),
        ("Müller^Jörg".encode(), None),
        ("Müller^Jörg".encode(), "ISO_IR 100"),
        (unicodedata.normalize("NFD", "Müller^Jörg").encode(), "ISO_IR 192"),
        (b"MUELLER^JOERG", None),
    ],
)
@pytest.mark.parametrize("report", ["Müller, Jörg", "MUELLER, Joerg"])
def test_a_name_is_masked_however_header_and_report_write_its_letters(name: bytes, charset: str | None, report: str):
    assert masked(f"Film of {report}: clear.", name, charset) == "Film of <deid>, <deid>: clear."


@pytest.mark.parametrize("charset", ["\\ISO 2022 IR 87", None, "ISO_IR 100"])
def test_escape_sequences_are_read_whether_they_are_declared_or_not(charset: str | None):
    name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    assert masked("山田太郎様の胸部。 Ed, BB.", name, charset) == "<deid><deid>様の胸部。 Ed, BB."


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("Dvorak^Jiri", "Dvořák Jiří"),
        ("MULLER^JORG", "Müller Jörg"),
        ("İBRAHİM^IŞIK", "İbrahim Işık"),
        ("أحمد^آدم", "أحمد آدم"),
        ("Андрей^Йозеф", "АНДРЕЙ ЙОЗЕФ"),
        ("Lukasz^Wojcik", "Łukasz Wójcik"),
        ("SØRENSEN^BJØRN", "Soerensen Bjorn"),
        ("Nunez^Strasse", "Núñez Straße"),
        ("ΠΑΠΑΔΟΠΟΥΛΟΣ^ΓΙΩΡΓΟΣ", "Παπαδόπουλος Γιώργος"),
    ],
)
def test_accents_do_not_hide_a_name(name: str, report: str):
    assert mask_text(f"Film of {report}.", [name]) == "Film of <deid> <deid>."


def test_words_that_only_resemble_a_name_stay():
    text = "The muller was blunt. RA and RV are normal. Red hue of the skin, coarse lines."
    assert mask_text(text, ["Mueller^Rae", "Huebner^Course"]) == text


def test_a_family_name_of_one_sign_is_masked_beside_the_given_name():
    assert mask_text("王小东的胸片。王 小东。国王。", ["王^小东"]) == "<deid><deid>的胸片。<deid> <deid>。国王。"
