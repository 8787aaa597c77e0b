"""A removal that is frozen before its last deletions, and wakes up after a night took over, takes nothing of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from crrg.errors import StorageError
from crrg.ledger.lease import Lease, acquire_lease
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import commit as night_commit
from crrg.operations.night import rewrite
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import plan_night, release_night, run_shard
from crrg.operations.night.rewrite import no_night, remove_held
from crrg.operations.privacy import forget as forgetting
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.traces import Traces
from crrg.storage import Storage, StoredObject
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    dicom_bytes,
    night_config,
    run_test_night,
)
from tests.support.forgetting import SETTINGS, found_of

EARLIER = "2026-11-19"
PATIENT = PSEUDONYMS.patient("P1")

pytestmark = pytest.mark.usefixtures("decode_here")


def wake_up_after(root: Storage, night: Callable[[], object]) -> None:
    """Let every lease expire, as while its process is frozen, and let a night run by then."""
    for stored in root.list_objects("leases"):
        os.utime(root.url(stored.key), (1_700_000_000,) * 2)
    night()


def put_film(inbox: Storage, number: int, patient: str) -> None:
    inbox.put(f"{number}.dcm", dicom_bytes(number, study=f"{number}", instance=f"{number}1", patient=patient))


def test_an_unfinished_run_that_was_committed_meanwhile_stays(inbox, root, monkeypatch):
    for number, patient in enumerate(("P1", "P2", "P3"), 1):
        put_film(inbox, number, patient)
    plan = plan_night(night_config(inbox, num_workers=0, shard_size=1), root, BUNDLE, PSEUDONYMS)
    run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())
    release_night(plan, root)

    def night() -> None:
        assert run_test_night(inbox, root, StandInDrafter(), num_workers=0, shard_size=1).num_accepted == 2

    def freeze(*asked: object) -> bool:
        wake_up_after(root, night)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "mentions", freeze)
        # known by the patient's id alone, which stands in records and in no key
        patch.setattr(forgetting, "find_traces", patients_alone)
        with pytest.raises(StorageError, match="run this again") as error:
            forget([PATIENT], root, SETTINGS, remove=True)
    assert error.value.retryable
    (manifest,) = read_manifests(root)
    assert (manifest.run_id, manifest.num_accepted) == (plan.run_id, 2)
    assert check_nights(root).is_good
    assert forget([PATIENT], root, SETTINGS, remove=True).is_removed
    assert found_of(root, {PATIENT, PSEUDONYMS.study("2.25.8.1")}) == []
    assert check_nights(root).is_good


def patients_alone(storage: Storage, asked: list[str]) -> tuple[Traces, tuple[str, ...]]:
    return Traces(patients=frozenset(asked)), ()


def test_tables_that_a_night_named_meanwhile_stay(inbox, root, monkeypatch):
    put_film(inbox, 1, "P1")
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=EARLIER)
    put_film(inbox, 2, "P2")
    with monkeypatch.context() as patch:
        patch.setattr(night_commit, "commit_manifest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    unnamed = rewrite.unnamed_of_nights

    def freeze(storage: Storage) -> Iterator[StoredObject]:
        found = list(unnamed(storage))
        assert f"ledger/date={DATE}" in "".join(stored.key for stored in found)
        wake_up_after(root, lambda: run_test_night(inbox, root, StandInDrafter(), num_workers=0))
        return iter(found)

    with monkeypatch.context() as patch:
        patch.setattr(rewrite, "unnamed_of_nights", freeze)
        with pytest.raises(StorageError, match="run this again"):
            forget([PATIENT], root, SETTINGS, remove=True)
    assert [each.num_accepted for each in read_manifests(root)] == [0, 1]
    assert check_nights(root).is_good
    assert forget([PATIENT], root, SETTINGS, remove=True).is_removed
    assert check_nights(root).is_good


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("num_removed", "passed_s"), [(64, 0.0), (3, 60.0)], ids=["a few later", "a while later"])
def test_it_is_asked_again_and_again_whether_the_night_is_still_held(root, monkeypatch, num_removed, passed_s):
    now_s, removed = [0.0], []
    monkeypatch.setattr(rewrite.time, "monotonic", lambda: now_s[0])

    def remove(key: str) -> None:
        removed.append(key)
        if len(removed) == 3:
            wake_up_after(root, lambda: _take_and_release(root))
            now_s[0] += passed_s

    with pytest.raises(StorageError, match="took over"), no_night(root, DATE) as lease:
        remove_held(lease, [f"{number}" for number in range(200)], remove)
    assert len(removed) == num_removed


def _take_and_release(root: Storage) -> None:
    lease = acquire_lease(root, EARLIER)
    assert isinstance(lease, Lease)
    lease.release()
