"""What a night that was cut off left behind is done again where it is damaged; what nobody can do again is named."""

from __future__ import annotations

import shutil

import pytest

from crrg.domain.labels import LABELS
from crrg.errors import StorageError
from crrg.ledger.lease import LIFETIME_S, acquire_lease, find_holder, lease_key
from crrg.ledger.manifest import fencing_numbers, manifest_key, read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import run_night
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    fill_inbox,
    night_config,
    run_test_night,
)
from tests.support.spoiled_objects import spoil


class CutOff(BaseException):
    """Stands for the end of a process after its first shard."""


def cut_off(*_: object) -> None:
    raise CutOff


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An inbox, a root whose night was cut off after its first shard, and the digest of the undisturbed night."""
    folder = tmp_path_factory.mktemp("made")
    inbox, root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
    fill_inbox(inbox, 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(night_feed, "default_num_workers", lambda: 0)
        whole = run_test_night(inbox, Storage(str(folder / "whole")), StandInDrafter(), num_workers=0)
        config = night_config(inbox, num_workers=0)
        with pytest.raises(CutOff):
            run_night(config, root, BUNDLE, PSEUDONYMS, StandInDrafter, on_shard=cut_off)
    return inbox, root, whole.digest


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    shutil.copytree(made[1].root, tmp_path / "root")
    return Storage(str(tmp_path / "root"))


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize(
    "part", ["plan/plan.json", "plan/inputs-00001", "shards/shard-00000", "/reports-00000", "/regions-00000"]
)
def test_a_night_that_was_cut_off_goes_on_whatever_of_it_is_damaged(made, root, part, is_gone):
    inbox, _, digest = made
    (key,) = [stored.key for stored in root.list_objects("results") if part in stored.key]
    root.put(key, root.get(key)[:-9])
    if is_gone:
        root.delete(key)
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0).digest == digest
    assert check_nights(root).is_good


@pytest.mark.parametrize(
    ("part", "field", "other"),
    [
        ("plan/plan.json", "shards", lambda shards: shards[:-1]),
        ("plan/inputs-00001", "inputs", lambda inputs: inputs[:-1]),
        ("shards/shard-00000", "outcomes", lambda outcomes: [{**each, "rank": 0} for each in outcomes]),
        ("shards/shard-00000", "thresholds", lambda thresholds: dict.fromkeys(thresholds, 0.01)),
    ],
)
def test_so_it_does_where_damage_left_json_that_says_something_else(made, root, part, field, other):
    inbox, _, digest = made
    (key,) = [stored.key for stored in root.list_objects("results") if part in stored.key]
    value = root.get_json(key)
    root.put_json(key, {**value, field: other(value[field])})
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0).digest == digest
    (manifest,) = read_manifests(root)
    assert manifest.thresholds == dict.fromkeys(LABELS, 0.5)
    assert check_nights(root).is_good


def test_a_manifest_that_is_damaged_ends_the_next_night_with_its_name(made, root):
    run_test_night(made[0], root, StandInDrafter(), num_workers=0)
    (number,) = fencing_numbers(root, DATE)
    spoil(root, manifest_key(DATE, number), is_gone=False)
    with pytest.raises(StorageError, match=rf"_manifest-{number}.json: .*restore it from a backup"):
        run_test_night(made[0], root, StandInDrafter(), num_workers=0)


@pytest.mark.parametrize("data", [b"", b'{"owner":{"host":', b"[]"])
def test_a_lease_that_cannot_be_read_holds_until_it_would_have_ended(root, monkeypatch, data):
    root.put(lease_key(DATE, 7), data)
    assert "unknown" in find_holder(root).describe()
    assert acquire_lease(root, DATE) is None
    from crrg.ledger import lease as lease_module

    now_s = lease_module.store_time_s(root)
    monkeypatch.setattr(lease_module, "store_time_s", lambda _: now_s + LIFETIME_S + 60)
    lease = acquire_lease(root, DATE)
    assert lease.fencing == 8
    # whoever wrote it cannot commit any more
    assert 7 in fencing_numbers(root, DATE)
    assert not root.exists(lease_key(DATE, 7))
    lease.release()
