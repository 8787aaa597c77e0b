"""A night over drawn films beside the population its bundle was trained on, and nights with planted changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crrg.config.base import STAGES
from crrg.config.references import BundleRef, DatasetRef
from crrg.config.watch import NightWatch
from crrg.data.dataset.pairs import write_dataset
from crrg.data.film import read_film
from crrg.data.phantom.cohort import drawn_study
from crrg.data.phantom.dicom_writer import drawn_ids, write_dicom
from crrg.data.phantom.painter import paint
from crrg.domain.report import Report
from crrg.domain.study import DraftReport, Film, Pair, Split
from crrg.errors import DegenerateNight
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.nightly import exit_code, run_night
from crrg.operations.summaries import night_report
from crrg.operations.training.watch_reference import measure_population
from crrg.registry.bundle import (
    REFERENCE_FILE,
    commit_bundle,
    read_bundle,
    read_reference,
)
from crrg.registry.composing import compose_bundle, with_reference, write_bundle
from crrg.storage import Storage, canonical_json
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, draft_of, night_config
from tests.support.planted_changes import changed, negative
from tests.support.stand_in_bundle import stand_in_stage

SIZE, NUM_TRAIN, NUM_NIGHT = 64, 100, 40


@pytest.fixture(autouse=True)
def _decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)


class Drafter(StandInDrafter):
    def __init__(self, bundle_id: str, text: str | None = None) -> None:
        super().__init__()
        self.bundle_id, self.text = bundle_id, text

    def draft(self, films: list[Film]) -> list[DraftReport]:
        drafts = [draft_of(film) for film in films]
        return drafts if self.text is None else [replace(draft, findings=self.text, impression="") for draft in drafts]


def drawn_file(index: int) -> bytes:
    study = drawn_study(7, index)
    return write_dicom(paint(study.scene, 7, SIZE), study.scene, drawn_ids(study.scene, 7), 7)


def pair_of(index: int) -> Pair:
    decoded = read_film(drawn_file(index), SIZE)
    split = Split.VALIDATION if index % 2 else Split.TRAIN
    report = Report(findings=f"The heart is normal. Study {index} is clear.")
    return Pair(f"p{index}", f"s{index}", f"i{index}", decoded.film, report, (), {"Edema": index % 2}, "drawn",
                "phantom", bytes(32), split, decoded.acquisition)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, DatasetRef, BundleRef]:
    root = Storage(str(tmp_path_factory.mktemp("trained")))
    dataset = write_dataset(root, "d", (pair_of(index) for index in range(NUM_TRAIN)), {"image_size": SIZE})
    stages = {name: stand_in_stage(root, name) for name in STAGES}
    reference = measure_population(dataset, root, Drafter(""))
    composed = compose_bundle(root, stages, dataset_version=dataset.version, image_size=SIZE)
    bundle = commit_bundle(root, with_reference(composed, canonical_json(reference.model_dump(mode="json"))))
    return root, dataset, bundle


@pytest.fixture(scope="module")
def fresh() -> list[bytes]:
    return [drawn_file(index) for index in range(1000, 1000 + NUM_NIGHT)]


def night(trained, tmp_path: Path, files: list[bytes], text: str | None = None, **watch: object):
    source, _, bundle = trained
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    for stored in source.list_objects("models"):
        root.put(stored.key, source.get(stored.key))
    for number, data in enumerate(files):
        inbox.put(f"{number:03d}.dcm", data)
    form = night_config(inbox, num_workers=0, shard_size=200, watch=watch)
    return root, lambda: run_night(form, root, bundle, PSEUDONYMS, lambda: Drafter(bundle.bundle_id, text))


def flagged(watch: NightWatch | None) -> set[str]:
    assert watch is not None
    assert watch.status == "compared"
    return {each.quantity for each in watch.flagged}


def test_the_reference_holds_counts_alone_and_stands_in_the_bundle(trained):
    root, dataset, bundle = trained
    reference = json.loads(read_reference(root, bundle))
    assert reference["num_film_patients"] == NUM_TRAIN
    assert reference["num_drafts"] == reference["num_draft_patients"] == NUM_TRAIN // 2
    assert reference["reports"]["num"] == NUM_TRAIN
    assert sum(reference["histograms"]["film/exposure"]["counts"]) == NUM_TRAIN
    # nobody on the list makes drawn films
    assert reference["histograms"]["device/manufacturer"]["counts"] == [0] * 13 + [NUM_TRAIN]
    assert reference["num_device_patients"] == NUM_TRAIN
    assert not any(word in json.dumps(reference) for word in ("heart", "p17", "s17", "i17"))
    assert REFERENCE_FILE in read_bundle(root, bundle).files
    smaller = measure_population(dataset, root, Drafter(""), num_films=20, num_drafts=20)
    assert smaller.num_film_patients < NUM_TRAIN
    assert 0 < smaller.num_drafts <= 32


def test_a_night_of_the_same_population_raises_no_flag(trained, fresh, tmp_path):
    root, run = night(trained, tmp_path, fresh)
    summary = run()
    assert flagged(summary.watch) == set()
    assert summary.watch.num_drafts == NUM_NIGHT
    assert (summary.watch.reference_bundle_id, summary.watch.num_reference_patients) == (
        trained[2].bundle_id,
        NUM_TRAIN,
    )
    said = f"compared with the training of bundle `{trained[2].bundle_id}`: {NUM_TRAIN} patients"
    assert said in night_report(summary, {})
    (manifest,) = read_manifests(root)
    stored = NightWatch.model_validate_json(root.get_verified(manifest.watch_key, manifest.watch_sha256))
    assert stored == summary.watch
    assert manifest.watch_key in root.get_json(manifest.index_key)
    assert "differs from" not in root.get(manifest.review_key).decode()


def test_a_polarity_flip_is_noticed_the_same_night_and_stops_delivery(trained, fresh, tmp_path):
    root, run = night(trained, tmp_path, [negative(data) for data in fresh], drift="stop")
    summary = run()
    assert "film/likeness" in flagged(summary.watch)
    likeness = next(each for each in summary.watch.findings if each.quantity == "film/likeness")
    assert likeness.level == "stop"
    (manifest,) = read_manifests(root)
    assert "film/likeness" in manifest.withheld
    assert "film/likeness" in root.get(manifest.review_key).decode()
    assert exit_code(summary) == 0


def test_thirty_percent_laterals_are_noticed_the_same_night(trained, fresh, tmp_path, caplog):
    num_lateral = NUM_NIGHT * 3 // 10
    files = [changed(data, ViewPosition="LATERAL") for data in fresh[:num_lateral]] + fresh[num_lateral:]
    root, run = night(trained, tmp_path, files)
    summary = run()
    assert summary.reasons == {"VIEW.LATERAL": num_lateral}
    assert flagged(summary.watch) == {"film/view"}
    assert "| PA 0.56 | PA 0.3 |" in night_report(summary, {})
    assert "(PA 0.3, in training PA 0.56)" in caplog.text
    assert read_manifests(root)[0].withheld == ""


def test_films_of_another_maker_are_noticed_the_same_night_and_no_word_of_a_header_is(trained, fresh, tmp_path):
    name = "Siemens of Vexhallow"
    files = [changed(data, Manufacturer=name) for data in fresh[: NUM_NIGHT // 2]] + fresh[NUM_NIGHT // 2 :]
    root, run = night(trained, tmp_path, files)
    summary = run()
    assert flagged(summary.watch) == {"device/manufacturer"}
    (found,) = [each for each in summary.watch.findings if each.quantity == "device/manufacturer"]
    assert (found.reference, found.night) == (1, 0.5)
    assert not [stored.key for stored in root.list_objects() if b"Vexhallow" in root.get(stored.key)]
    # films of which nobody says the maker are compared with nothing
    _, run = night(trained, tmp_path / "unknown", [changed(data, Manufacturer="") for data in fresh])
    quantities = {each.quantity for each in run().watch.findings}
    assert "film/exposure" in quantities
    assert "device/manufacturer" not in quantities


def test_watching_can_be_switched_off_and_small_nights_are_not_judged(trained, fresh, tmp_path):
    _, run = night(trained, tmp_path / "off", [negative(data) for data in fresh], drift="off")
    assert run().watch.status == "off"
    _, run = night(trained, tmp_path / "few", fresh[:6])
    summary = run()
    assert (summary.watch.status, summary.watch.findings) == ("too_few", ())
    assert summary.watch.reference_bundle_id == ""
    assert "compared with the training" not in night_report(summary, {})


@pytest.mark.parametrize("text", ["The lungs are clear.", "lung lung lung lung lung"])
def test_a_degenerate_night_is_not_published_and_the_error_names_the_way_out(trained, fresh, tmp_path, text):
    root, run = night(trained, tmp_path, fresh, text)
    with pytest.raises(DegenerateNight, match=r"nothing was published.*promote --rollback.*--degenerate publish"):
        run()
    assert read_manifests(root) == []
    assert not [stored for stored in root.list_objects() if stored.key.startswith(("ledger", "quarantine"))]
    # the same shards are published where a person says so, and the page says what they are
    inbox = Storage(str(tmp_path / "inbox"))
    form = night_config(inbox, num_workers=0, shard_size=200, watch={"degenerate": "publish"})
    bundle, unused = trained[2], Drafter(trained[2].bundle_id)
    summary = run_night(form, root, bundle, PSEUDONYMS, lambda: unused)
    assert summary.status == "committed"
    assert unused.num_drafted == 0
    assert summary.watch.faults
    assert "Degenerate" in root.get(summary.review_key).decode()
    assert read_manifests(root)[0].withheld == "is degenerate"


def test_a_bundle_of_before_the_watch_is_watched_by_nothing_and_says_so(trained, fresh, tmp_path, caplog):
    root, dataset, _ = trained
    older = write_bundle(
        root, {name: stand_in_stage(root, name) for name in STAGES}, dataset_version=dataset.version, image_size=SIZE
    )
    assert read_reference(root, older) is None
    _, run = night((root, dataset, older), tmp_path, [negative(data) for data in fresh])
    summary = run()
    assert summary.watch.status == "no_reference"
    assert "compared with nothing" in caplog.text
