"""The bundle as an MLflow model: what other people's programs give it and get from it (contracts, section 5)."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest

from crrg.data.decoding import pool as decoder_pool
from crrg.data.decoding.process import Child
from crrg.domain.labels import LABELS
from crrg.errors import DataError
from crrg.operations.registry.bundle_model import BundleModel
from tests.support.drawn_night import SIZE, StandInDrafter, dicom_bytes, png_bytes


@pytest.fixture
def model() -> BundleModel:
    loaded = BundleModel()
    loaded._pipeline = SimpleNamespace(draft=StandInDrafter().draft, image_size=SIZE)
    return loaded


def asked(*films: bytes) -> list[dict[str, str]]:
    return [{"image": base64.b64encode(film).decode()} for film in films]


def test_every_film_has_a_draft_and_its_probabilities(model: BundleModel) -> None:
    drafts = model.predict(None, asked(png_bytes(1), dicom_bytes(2)))
    assert [draft["status"] for draft in drafts] == ["DRAFT", "DRAFT"]
    assert all(list(json.loads(draft["probabilities"])) == list(LABELS) for draft in drafts)


def test_films_are_as_large_as_those_that_it_was_trained_on(model: BundleModel) -> None:
    seen: list[tuple[int, ...]] = []
    model._pipeline = SimpleNamespace(
        draft=lambda films: seen.extend(f.pixels.shape for f in films) or [], image_size=32
    )
    model.predict(None, asked(png_bytes(1)))
    assert seen == [(32, 32)]


def test_a_lateral_film_is_refused_as_a_night_refuses_it(model: BundleModel) -> None:
    with pytest.raises(DataError, match=r"film 2: .*lateral") as caught:
        model.predict(None, asked(dicom_bytes(2), dicom_bytes(3, view="LATERAL")))
    assert caught.value.code == "VIEW.LATERAL"


def test_what_is_no_film_is_said_by_its_place(model: BundleModel) -> None:
    with pytest.raises(DataError, match="film 1: ") as caught:
        model.predict(None, asked(b"no film"))
    assert caught.value.code.startswith("NOT_DICOM.")


def test_films_are_decoded_where_they_can_do_no_harm(model: BundleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Child] = []

    class Noted(Child):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            started.append(self)

    monkeypatch.setattr(decoder_pool, "Child", Noted)
    assert len(model.predict(None, asked(png_bytes(1), png_bytes(2)))) == 2
    assert len(started) == 1
    assert started[0].process.poll() is not None, "and it ends with the call"
