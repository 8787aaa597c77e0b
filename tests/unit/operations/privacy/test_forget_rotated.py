"""A changed secret, datasets and a removal together: nobody stays behind under an id that nobody can ask for."""

from __future__ import annotations

import pyarrow as pa
import pytest

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import list_versions, read_pairs, resolve_dataset
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Split
from crrg.errors import ConfigError, StorageError
from crrg.ledger.audit import read_audit
from crrg.ledger.tables import table_bytes
from crrg.operations.ingest.ingest import ingest
from crrg.operations.privacy import forget as forgetting
from crrg.operations.privacy.forget import forget
from crrg.operations.scoring.learnt_from import learnt_from
from crrg.operations.training.draft_store import SCHEMA
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, dicom_bytes
from tests.support.forgetting import SETTINGS, decode_here, found_of
from tests.support.keys import NEW_KEY

NEW = Pseudonyms(NEW_KEY.encode())
NEW_SETTINGS = Settings(hmac_key=NEW_KEY)  # type: ignore[arg-type]
NUMBERS = range(1, 9)


class Archive:
    """Eight films of eight patients, and a root with a dataset of them under the old secret, with drafts."""

    def __init__(self, folder) -> None:
        self.source, self.root = Storage(str(folder / "source")), Storage(str(folder / "root"))
        for number in NUMBERS:
            film = dicom_bytes(number, study=str(number), instance=str(number), patient=f"P{number}")
            self.source.put(f"{number}.dcm", film)
        self.old = self.ingest(PSEUDONYMS)
        rows = [
            {"patient_id": pair.patient_id, "study_id": pair.study_id, "instance_id": pair.instance_id,
             "pixel_digest": pair.film.pixel_digest, "findings": "", "impression": ""}
            for pair in read_pairs(self.root, self.old, Split.TRAIN)
        ]  # fmt: skip
        for kind in ("train", "train-nbest-8-0123"):
            key = f"models/drafts/{'b' * 32}/chest-{self.old.version}-{kind}/part-00000.parquet"
            self.root.put(key, table_bytes(pa.Table.from_pylist(rows, SCHEMA)))

    def ingest(self, pseudonyms, **changes):
        form = {"source": (self.source.root,), "dataset": "chest", "image_size": 64, "num_workers": 1, **changes}
        shares = {"train_share": 0.5, "validation_share": 0.25}
        return ingest(IngestConfig.model_validate({**form, **shares}), self.root, pseudonyms).dataset

    def old_ids(self):
        ids = {PSEUDONYMS.patient(f"P{number}") for number in NUMBERS}
        return ids | {PSEUDONYMS.instance(f"2.25.9.{number}") for number in NUMBERS}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    decode_here(monkeypatch)
    return Archive(tmp_path)


def test_a_new_secret_retires_what_the_old_one_named_and_a_removal_reaches_all_of_a_patient(archive, monkeypatch):
    seed = archive.ingest(PSEUDONYMS, seed=7)
    new = archive.ingest(NEW, new_secret=True)
    assert list_versions(archive.root, "chest") == [new.version]
    assert found_of(archive.root, archive.old_ids()) == []
    assert archive.root.list_objects("models/drafts") == []
    assert collect_garbage(archive.root, min_age_h=0).objects == []
    (entry,) = [entry for entry in read_audit(archive.root) if entry.action == "retire"]
    assert set(entry.inputs) == {archive.old.version, seed.version}
    with pytest.raises(ConfigError, match=f"the pseudonym secret changed; use version {new.version}"):
        resolve_dataset(archive.root, "chest", archive.old.version)
    asked: list[frozenset[str]] = []
    monkeypatch.setattr(forgetting, "models_trained_on", lambda _s, _c, versions: asked.append(versions) or ())
    forget([NEW.patient("P3")], archive.root, NEW_SETTINGS, remove=True)
    assert asked == [{archive.old.version, seed.version, new.version}]
    left = resolve_dataset(archive.root, "chest")
    patients = {pair.patient_id for split in Split for pair in read_pairs(archive.root, left, split)}
    assert patients == {NEW.patient(f"P{number}") for number in NUMBERS if number != 3}


def test_a_removal_is_refused_while_another_secret_names_patients_of_a_dataset(archive):
    archive.ingest(NEW, dataset="other")
    for settings, patient in ((NEW_SETTINGS, NEW.patient("P3")), (SETTINGS, PSEUDONYMS.patient("P3"))):
        with pytest.raises(ConfigError, match="nobody is found in it; ingest its archive with --new-secret"):
            forget([patient], archive.root, settings, remove=True)
    assert found_of(archive.root, {PSEUDONYMS.patient("P3")})
    archive.ingest(NEW, new_secret=True)
    assert forget([NEW.patient("P3")], archive.root, NEW_SETTINGS, remove=True).is_removed
    assert found_of(archive.root, {PSEUDONYMS.patient("P3"), NEW.patient("P3")}) == []


def test_what_a_bundle_of_the_old_secret_has_seen_is_still_told_film_by_film_but_of_nobody_forgotten(archive):
    def seen(version):
        learnt = learnt_from([{"dataset_version": version, "stages": {}}], archive.root)
        assert learnt.unknown == ()
        return learnt.films

    before, old = seen(archive.old.version), archive.old.version
    new = archive.ingest(NEW, new_secret=True)
    assert seen(old) == before != seen(new.version)
    # with a third secret, too, and what it no longer holds is not kept
    archive.source.delete("1.dcm")
    third = Pseudonyms(b"a third one, as random as it gets")
    archive.ingest(third, new_secret=True)
    films = {
        pair.patient_id: pair.film.pixel_digest
        for split in Split
        for pair in read_pairs(archive.root, resolve_dataset(archive.root, "chest"), split)
    }
    held = before & set(films.values())
    assert seen(old) == held
    patient = next(name for name, digest in films.items() if digest in held)
    forget([patient], archive.root, Settings(hmac_key="a third one, as random as it gets"), remove=True)  # type: ignore[arg-type]
    assert seen(old) == held - {films[patient]}
    texts = (archive.root.get(stored.key) for stored in archive.root.list_objects("datasets"))
    assert not any(films[patient].hex().encode() in text for text in texts)


def test_versions_that_an_ingest_may_not_remove_do_not_count_and_are_left_to_gc_and_forget(archive, monkeypatch):
    def denied(self, key):
        raise StorageError("access denied", key)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", denied)
        new = archive.ingest(NEW, new_secret=True)
    assert found_of(archive.root, archive.old_ids())
    assert list_versions(archive.root, "chest") == [new.version]
    assert any(archive.old.manifest_key == stored.key for stored in collect_garbage(archive.root, min_age_h=0).objects)
    forget([NEW.patient("P3")], archive.root, NEW_SETTINGS, remove=True)
    assert found_of(archive.root, archive.old_ids()) == []


def test_a_secret_that_was_changed_back_brings_a_retired_version_back(archive):
    new = archive.ingest(NEW, new_secret=True)
    back = archive.ingest(PSEUDONYMS, new_secret=True)
    assert back.version == archive.old.version
    assert list_versions(archive.root, "chest") == [back.version]
    assert resolve_dataset(archive.root, "chest", back.version) == back
    with pytest.raises(ConfigError, match=f"use version {back.version}"):
        resolve_dataset(archive.root, "chest", new.version)
    assert forget([PSEUDONYMS.patient("P3")], archive.root, SETTINGS, remove=True).is_removed
