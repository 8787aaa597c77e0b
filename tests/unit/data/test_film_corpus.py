"""Every legal form of a film is read right, every fault is refused by its name; the corpus is made by code."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest

from crrg.data.decoding.pool import decode_many
from crrg.data.decoding.process import Child
from crrg.data.film import DecodedFilm, read_film
from crrg.data.identity import check_identity
from crrg.errors import DataError
from tests.support.film_corpus import JPEG_LS, Variant, dicom, drawn_chest
from tests.support.film_corpus_coding import legal_codings
from tests.support.film_corpus_display import legal_displays
from tests.support.film_corpus_faults import faults

MIN_CORRELATION = 0.99
MAX_EXTRA_BYTES = 512 * 2**20
BOMB_FACTOR = 8
"""A bomb may take as long as this many ordinary films, which is less than a second."""


@pytest.fixture(scope="module")
def corpus() -> list[Variant]:
    with warnings.catch_warnings():
        # pydicom remarks on what is wrong on purpose
        warnings.simplefilter("ignore")
        return [*legal_codings(), *legal_displays(), *faults()]


@pytest.fixture(scope="module")
def decoded(corpus):
    """Decode everything in one child; return the outcomes and the most memory the child held, bytes."""
    peaks = []
    end = Child.end

    def measure_and_end(self):
        status = Path(f"/proc/{self.process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        peaks.extend(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        return end(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Child, "end", measure_and_end)
        outcomes = list(decode_many((variant.data for variant in corpus), 256, 1))
    return outcomes, peaks


def code_of(outcome: DecodedFilm | DataError) -> str:
    """Return the reason code of a refusal, by the reader or by the check of identity; empty if accepted."""
    if isinstance(outcome, DataError):
        return outcome.code
    try:
        if outcome.header is not None:
            check_identity(outcome.header)
    except DataError as error:
        return error.code
    return ""


def test_the_corpus_is_large_and_its_names_are_unique(corpus):
    assert len({variant.name for variant in corpus}) == len(corpus)
    assert sum(variant.truth is not None for variant in corpus) >= 200
    assert sum(bool(variant.families) for variant in corpus) >= 150
    assert sum(variant.is_bomb for variant in corpus) >= 15


def test_every_legal_film_shows_the_chest_that_was_drawn(corpus, decoded):
    wrong = {}
    for variant, outcome in zip(corpus, decoded[0], strict=True):
        if variant.truth is None:
            continue
        if code_of(outcome):
            wrong[variant.name] = code_of(outcome)
            continue
        height, width = outcome.film.pixels.shape
        truth = cv2.resize(variant.truth.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        correlation = np.corrcoef(outcome.film.pixels.ravel(), truth.ravel())[0, 1]
        if not correlation >= MIN_CORRELATION:
            wrong[variant.name] = correlation
    assert wrong == {}


def test_every_faulty_film_is_refused_by_its_family(corpus, decoded):
    wrong = {
        variant.name: code_of(outcome)
        for variant, outcome in zip(corpus, decoded[0], strict=True)
        if variant.families and code_of(outcome).split(".")[0] not in variant.families
    }
    assert wrong == {}


def test_nothing_of_the_corpus_ends_or_swells_the_decoding_process(decoded):
    outcomes, peaks = decoded
    assert not [outcome for outcome in outcomes if code_of(outcome) in {"DECODE.CRASH", "DECODE.TIMEOUT"}]
    if not peaks:
        pytest.skip("peak memory of a process is read from /proc")
    assert len(peaks) == 1
    assert max(peaks) < MAX_EXTRA_BYTES


def test_bombs_are_refused_undecoded(corpus):
    large = cv2.resize(drawn_chest(), (2048, 2500), interpolation=cv2.INTER_CUBIC).clip(0, 4095)
    film = dicom(large, syntax=JPEG_LS, frames=[bytes(imagecodecs.jpegls_encode(large))])
    read_film(film, 512)
    started = time.process_time()
    read_film(film, 512)
    limit_s = BOMB_FACTOR * (time.process_time() - started)
    slow = {}
    for variant in corpus:
        if not variant.is_bomb:
            continue
        started = time.process_time()
        with pytest.raises(DataError):
            read_film(variant.data, 512)
        elapsed_s = time.process_time() - started
        if elapsed_s > limit_s:
            slow[variant.name] = (elapsed_s, limit_s)
    assert slow == {}


def test_flags_say_what_was_done(corpus, decoded):
    flags = {
        variant.name: outcome.film.flags
        for variant, outcome in zip(corpus, decoded[0], strict=True)
        if isinstance(outcome, DecodedFilm)
    }
    assert flags["MONOCHROME1"] == ()
    assert flags["MONOCHROME1 and INVERSE"] == ()
    assert flags["for processing, values rise with the beam"] == ()
    assert flags["for processing, not said, a negative"] == ("polarity_by_picture",)
    assert flags["window far off"] == ("window_dropped",)
    assert flags["view as a code"] == ()
    assert "polarity_by_picture" in flags["PNG, a negative"]
    assert "polarity_by_picture" not in flags["PNG"]
