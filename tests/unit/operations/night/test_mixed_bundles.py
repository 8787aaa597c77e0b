"""A study whose films different bundles drafted: each film keeps the version and the thresholds of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crrg.config.references import BundleRef
from crrg.domain.labels import LABELS
from crrg.ledger.manifest import Manifest, read_manifests, run_prefix
from crrg.operations.night import feed as night_feed
from crrg.operations.night.nightly import run_night
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config

NEWER = BundleRef(bundle_id="c" * 32, prefix="models/bundles/newer", model_version="8")
NEWEST = BundleRef(bundle_id="d" * 32, prefix="models/bundles/newest", model_version="9")
THRESHOLDS = {BUNDLE: 0.5, NEWER: 0.25, NEWEST: 0.125}
ABNORMAL = {BUNDLE: (0.5, 1), NEWER: (0.1, 29), NEWEST: (0.9, 0)}
"""From which probability a region reads abnormal, and how many of the stand-in's do: one says 0.8, the others 0.1."""
STUDY = PSEUDONYMS.study("2.25.8.5")


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Storage(str(tmp_path / "inbox"))


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def night(inbox: Storage, root: Storage, day: int, bundle: BundleRef, instance: str, view: str) -> Manifest:
    """Run a night in which a film of the study arrives."""
    inbox.put(f"five/{instance}.dcm", dicom_bytes(int(instance), study="5", instance=instance, view=view))
    inbox.put(f"{instance}.dcm", dicom_bytes(day, study=instance, instance=f"{instance}1"))
    drafter = StandInDrafter()
    drafter.bundle_id, drafter.label_thresholds = bundle.bundle_id, dict.fromkeys(LABELS, THRESHOLDS[bundle])
    drafter.abnormal_threshold = ABNORMAL[bundle][0]
    run_night(night_config(inbox, date=f"2026-11-{day}", num_workers=0), root, bundle, PSEUDONYMS, lambda: drafter)
    return read_manifests(root)[-1]


def documents(root: Storage, manifest: Manifest) -> dict[str, dict]:
    folder = f"{run_prefix(manifest.date, manifest.run_id)}/documents"
    found = [
        root.get_json(key) for key in root.get_json(manifest.index_key) if key.startswith(folder) and "json" in key
    ]
    return {each["study_id"]: each for each in found}


def shown(root: Storage, manifest: Manifest) -> dict[str, dict]:
    data = root.get(manifest.review_key.replace("index.html", "data-00000.js"))
    text = data.removeprefix(b"window.CRRG_NIGHT.studies.push(").removesuffix(b");\n")
    return {each["id"]: each for each in json.loads(b"[" + text + b"]")}


def test_a_film_that_moves_on_keeps_the_version_and_thresholds_that_drafted_it(inbox, root):
    night(inbox, root, 20, BUNDLE, "51", "PA")
    night(inbox, root, 21, NEWER, "52", "AP")
    manifest = night(inbox, root, 22, NEWEST, "53", "AP")
    found = documents(root, manifest)
    mixed, alone = found.pop(STUDY), found.popitem()[1]
    assert (alone["model_version"], alone["bundle_id"]) == ("9", NEWEST.bundle_id)
    assert set(alone["thresholds"].values()) == {0.125}
    # the primary film is the first one's
    assert (mixed["model_version"], mixed["bundle_id"]) == ("7", BUNDLE.bundle_id)
    own = {film["instance_id"]: film for film in mixed["films"]}
    for instance, bundle in (("51", BUNDLE), ("52", NEWER), ("53", NEWEST)):
        film = own[PSEUDONYMS.instance(f"2.25.9.{instance}")]
        assert (film["model_version"], film["bundle_id"]) == (bundle.model_version, bundle.bundle_id)
        assert set(film["thresholds"].values()) == {THRESHOLDS[bundle]}
        assert (film["abnormal_threshold"], sum(region["is_abnormal"] for region in film["regions"])) == ABNORMAL[
            bundle
        ]
    assert len(set(mixed["thresholds"].values())) > 1


def test_the_page_shows_the_bundle_of_each_film_and_the_thresholds_of_each_study(inbox, root):
    night(inbox, root, 20, BUNDLE, "51", "PA")
    manifest = night(inbox, root, 21, NEWER, "52", "AP")
    found = shown(root, manifest)
    mixed, alone = found.pop(STUDY), found.popitem()[1]
    assert (alone["thresholds"], [film["model"] for film in alone["films"]]) == (None, [None])
    assert set(mixed["thresholds"]) <= {0.5, 0.25}
    assert [film["model"] for film in mixed["films"]] == [["7", BUNDLE.bundle_id], None]
    for film, bundle in zip(mixed["films"], (BUNDLE, NEWER), strict=True):
        assert (film["abnormalFrom"], sum(region[-1] for region in film["regions"])) == ABNORMAL[bundle]
