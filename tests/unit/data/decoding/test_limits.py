"""What one input may ask for is set once for a process, and holds in its decoders too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.data.decoding.limits import DecoderLimits, InputLimits, in_force
from crrg.data.decoding.pool import IdleDecoders, decode_many
from crrg.data.dicom.film import read_dicom_film
from crrg.data.film import DecodedFilm
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.reports.sections import clean_text
from crrg.errors import DataError, ReportError
from crrg.operations.ingest.ingest import ingest
from crrg.operations.root import open_root, put_in_force
from crrg.operations.upkeep import doctor
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom
from tests.support.drawn_night import png_bytes
from tests.support.keys import KEY

PSEUDONYMS = Pseudonyms(KEY.encode())


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_force, "decoder", DecoderLimits())


def code_of(outcome: DecodedFilm | DataError) -> str:
    return outcome.code if isinstance(outcome, DataError) else ""


def limited(**inputs: int) -> DecoderLimits:
    return DecoderLimits(inputs=InputLimits(**inputs))


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({}, ""),
        ({"max_pixels": 100}, "LIMIT.PIXELS"),
        ({"max_file_bytes": 100}, "LIMIT.FILE_SIZE"),
        ({"max_elements": 5}, "LIMIT.ELEMENTS"),
    ],
)
def test_a_decoding_process_keeps_to_the_limits_it_is_given(inputs, code):
    (outcome,) = decode_many([build_dicom()], 64, 1, limited(**inputs))
    assert code_of(outcome) == code


def test_a_limit_that_is_raised_lets_more_in():
    assert code_of(*decode_many([build_dicom()], 64, 1, limited(max_elements=5))) == "LIMIT.ELEMENTS"
    in_force.decoder = limited(max_elements=5)
    with pytest.raises(DataError, match="CRRG_MAX_ELEMENTS"):
        read_dicom_film(build_dicom(), 64)
    in_force.decoder = limited(max_elements=30)
    assert read_dicom_film(build_dicom(), 64).film.original_width > 0
    assert code_of(*decode_many([build_dicom()], 64, 1)) == ""


def test_a_decoder_that_waits_under_other_limits_is_not_given_out():
    now = limited(max_pixels=100)
    idle = IdleDecoders(lambda: now)
    assert code_of(*decode_many([build_dicom()], 64, 1, idle=idle)) == "LIMIT.PIXELS"
    old = idle.take()
    idle.put_by(old)
    now = limited()
    assert code_of(*decode_many([build_dicom()], 64, 1, idle=idle)) == ""
    assert old.process.poll() is not None
    idle.end()


def test_a_longer_report_is_read_where_that_is_set():
    text = "a " * 10_500
    with pytest.raises(ReportError, match="CRRG_MAX_REPORT_CHARACTERS"):
        clean_text(text)
    in_force.decoder = limited(max_report_characters=30_000)
    assert len(clean_text(text)) > 20_000


def test_every_limit_can_be_set_and_is_put_in_force_with_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    values = {
        "MAX_FILE_MIB": 2, "MAX_PIXELS": 2_000_000, "MAX_SEQUENCE_DEPTH": 5, "MAX_ELEMENTS": 3000,
        "MAX_REPORT_CHARACTERS": 4000, "DECODER_MEMORY_MIB": 600, "DECODER_CPU_S": 7, "DECODER_TIMEOUT_S": 8,
    }  # fmt: skip
    for name, value in {**values, "ROOT": str(tmp_path)}.items():
        monkeypatch.setenv(f"CRRG_{name}", str(value))
    open_root()
    assert in_force.decoder == DecoderLimits(
        600 * 2**20, 7, 8.0, inputs=InputLimits(2 * 2**20, 2_000_000, 5, 3000, 4000)
    )
    (said,) = [each.detail for each in doctor._decoders() if each.name == "decoder limits"]
    for part in ("600 MiB, 7 s", "8 s per", "up to 2 MiB, 2,000,000 pixels", "depth 5, 3,000 elements", "4,000 char"):
        assert part in said


def test_what_is_set_nowhere_is_what_holds_without_settings():
    before = in_force.decoder
    put_in_force(Settings())
    assert in_force.decoder == before


def test_a_film_over_a_limit_is_read_by_the_next_ingest_under_another(tmp_path: Path):
    archive, root = Storage(str(tmp_path / "films")), Storage(str(tmp_path / "root"))
    sizes = [len(data) for data in map(png_bytes, range(3))]
    for number in range(3):
        archive.put(f"{number}.png", png_bytes(number) if number else png_bytes(0) + b"\0" * max(sizes))
    form = IngestConfig(source=archive.root, dataset="x", image_size=64)
    in_force.decoder = limited(max_file_bytes=max(sizes))
    first = ingest(form, root, PSEUDONYMS)
    assert (first.num_accepted, first.reasons) == (2, {"LIMIT.FILE_SIZE": 1})
    assert ingest(form, root, PSEUDONYMS).reused, "under the same limits there is nothing to read"
    in_force.decoder = replace(in_force.decoder, inputs=InputLimits())
    second = ingest(form, root, PSEUDONYMS)
    assert (second.num_accepted, second.reasons, second.reused) == (3, {}, False)
