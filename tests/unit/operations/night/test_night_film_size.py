"""A night decodes films to the size that its models were trained on, whoever asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from crrg.config.base import Settings
from crrg.config.references import BundleRef
from crrg.config.running import NightlyConfig
from crrg.domain.study import DraftReport, Film
from crrg.errors import ConfigError, ModelError, StorageError
from crrg.ledger.lease import find_holder
from crrg.operations.night import steps as night_steps
from crrg.operations.night.nightly import plan_night
from crrg.registry.bundle import bundle_digest, read_bundle, take_in
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, night_config, png_bytes
from tests.support.keys import KEY
from tests.support.stand_in_bundle import stand_in_bundle

TRAINED_ON = 96
"""Longer side of what the bundle was trained on; films of the inbox are smaller, and kept as they are, or larger."""


class Seen(StandInDrafter):
    """Remembers how large films were."""

    def __init__(self, bundle_id: str) -> None:
        super().__init__()
        self.bundle_id = bundle_id
        self.sides: list[int] = []

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        self.sides += [max(film.pixels.shape) for film in films]
        return super().draft(films)


class Place:
    """A root with a bundle, and an inbox."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.inbox.put("a.png", png_bytes(1, side=200))
        self.settings = Settings(hmac_key=SecretStr(KEY), root=self.root.root)
        self.bundle = stand_in_bundle(self.root, image_size=TRAINED_ON)

    def form(self, image_size: int = 0) -> NightlyConfig:
        return night_config(self.inbox, model=self.root.url(self.bundle.prefix), image_size=image_size)

    def forget_size(self) -> None:
        """Make the bundle one of the programs that did not record it."""
        key = f"{self.bundle.prefix}/bundle.json"
        spec = {**self.root.get_json(key), "schema_version": 2}
        del spec["preprocessing"]["image_size"]
        spec["bundle_id"] = bundle_digest(spec)
        self.root.put_json(key, spec)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def planned_size(place: Place, image_size: int = 0) -> int:
    plan = night_steps.open_night(place.form(image_size), place.root, place.settings)
    night_steps.nightly.release_night(plan, place.root)
    return plan.config.image_size


@pytest.mark.parametrize("image_size", [0, TRAINED_ON])
def test_shards_get_the_size_of_the_bundle(place: Place, image_size: int) -> None:
    assert planned_size(place, image_size) == TRAINED_ON


def test_a_whole_night_drafts_films_of_that_size(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    drafter = Seen(place.bundle.bundle_id)
    monkeypatch.setattr(night_steps, "bundle_pipeline", lambda *_: drafter)
    monkeypatch.setattr(night_steps, "report_night", lambda *_: "")
    assert night_steps.run_night(place.form(), place.root, place.settings).num_accepted == 1
    assert drafter.sides == [TRAINED_ON]


def test_another_size_is_refused_before_the_night_is_taken(place: Place) -> None:
    before = {stored.key for stored in place.root.list_objects()}
    for ask in (night_steps.open_night, night_steps.run_night):
        with pytest.raises(ConfigError, match=r"image_size is 512, .* films of 96 pixels; leave image_size out"):
            ask(place.form(512), place.root, place.settings)
    assert find_holder(place.root) is None
    assert {stored.key for stored in place.root.list_objects()} == before


def test_of_a_bundle_that_does_not_say_the_form_is_believed(place: Place) -> None:
    place.forget_size()
    assert planned_size(place) == 512
    assert planned_size(place, 1024) == 1024


def test_a_night_without_a_size_is_not_planned(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"size of the films is open; plan it by crrg\.operations\.night\.steps, or"):
        plan_night(place.form(), place.root, BUNDLE, PSEUDONYMS)
    with pytest.raises(ValidationError, match="at least 64 pixels"):
        place.form(32)


def test_a_bundle_from_elsewhere_is_kept_with_the_nights_that_used_it(tmp_path: Path) -> None:
    place, elsewhere = Place(tmp_path), Storage(str(tmp_path / "elsewhere"))
    bundle = stand_in_bundle(elsewhere, image_size=TRAINED_ON, clip=2)
    form = night_config(place.inbox, model=elsewhere.url(bundle.prefix), image_size=0)
    with pytest.raises(ConfigError, match="leave image_size out"):
        night_steps.open_night(form.model_copy(update={"image_size": 512}), place.root, place.settings)
    assert not place.root.exists(f"{bundle.prefix}/bundle.json")
    plan = night_steps.open_night(form, place.root, place.settings)
    night_steps.nightly.release_night(plan, place.root)
    assert plan.bundle == bundle
    assert read_bundle(place.root, plan.bundle).files == read_bundle(elsewhere, bundle).files


def test_a_bundle_of_the_root_keeps_its_place_when_the_root_is_copied(place: Place) -> None:
    plan = night_steps.open_night(place.form(), place.root, place.settings)
    night_steps.nightly.release_night(plan, place.root)
    assert plan.bundle.prefix == place.bundle.prefix


def test_who_may_not_write_models_is_told_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, elsewhere = Place(tmp_path), Storage(str(tmp_path / "elsewhere"))
    bundle = stand_in_bundle(elsewhere, image_size=TRAINED_ON, clip=2)

    def denied(_storage: Storage, key: str, _data: bytes) -> None:
        raise StorageError("PutObject is denied", key, code=ACCESS_DENIED)

    monkeypatch.setattr(Storage, "put", denied)
    with pytest.raises(ModelError, match=r"PutObject is denied\); run this once as who trains"):
        take_in(place.root, BundleRef(bundle_id=bundle.bundle_id, prefix=elsewhere.url(bundle.prefix)))
