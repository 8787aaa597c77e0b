"""A holder that is frozen while it publishes, and wakes up after another committed the run, spoils nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from crrg.errors import Conflict
from crrg.ledger.lease import lease_key
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.digest import committed_digest
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from tests.support.drawn_night import DATE, StandInDrafter, dicom_bytes, fill_inbox, run_test_night

TABLES = ("ledger/", "quarantine/", "results/")


class Freezing(Storage):
    """A root whose holder is frozen before the first step of some kind, until something else is done."""

    def __init__(self, root: str, is_reached: Callable[[str], bool], meanwhile: Callable[[], None]) -> None:
        super().__init__(root)
        self.is_reached = is_reached
        self.meanwhile = meanwhile
        self.was_frozen = False

    def put(self, key: str, data: bytes) -> None:
        """Write an object, a moment or an hour after it was asked for."""
        self._freeze(f"write {key}")
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write an object where there is none, a moment or an hour after it was asked for."""
        self._freeze(f"write {key}")
        super().put_if_absent(key, data)

    def get(self, key: str) -> bytes:
        """Read an object, a moment or an hour after it was asked for."""
        self._freeze(f"read {key}")
        return super().get(key)

    def _freeze(self, step: str) -> None:
        if not self.was_frozen and self.is_reached(step):
            self.was_frozen = True
            self.meanwhile()


@pytest.fixture(autouse=True)
def _decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)


@pytest.mark.parametrize(
    "place",
    [
        r"write .*/shards/shard-00002", r"write .*/reports-00001",
        # the commit begins: what it decides, it decides by a ledger that has the run's own rows by then
        r"read .*/shards/shard-00000", r"read .*/reports-00000",
        r"write ledger/date", r"write quarantine/date", r"write .*/report.json", r"write .*/watch.json",
        r"write .*/data-00000.js", r"write .*/review/index.html", r"write .*/index.json",
    ],
)  # fmt: skip
def test_what_a_woken_holder_writes_takes_the_place_of_nothing(tmp_path: Path, place: str) -> None:
    inbox, other = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox)
    # films of one identifier and other pixels in two shards: which of them counts is settled in the commit
    inbox.put("a/first.dcm", dicom_bytes(300, study="8", instance="81"))
    inbox.put("zzz/second.dcm", dicom_bytes(301, study="8", instance="81"))
    committed: dict[str, bytes] = {}

    def another_holds_the_night() -> None:
        os.utime(other.url(lease_key(DATE, 1)), (1_700_000_000,) * 2)
        assert run_test_night(inbox, other, StandInDrafter(), num_workers=0).status == "committed"
        committed.update({each.key: other.get(each.key) for folder in TABLES for each in other.list_objects(folder)})

    woken = Freezing(other.root, lambda step: re.match(place, step) is not None, another_holds_the_night)
    with pytest.raises(Conflict, match="another holder"):
        run_test_night(inbox, woken, StandInDrafter(), num_workers=0)
    assert woken.was_frozen
    (manifest,) = read_manifests(other)
    assert manifest.fencing == 2
    # records of shards are for who holds the run, and say the same
    assert {key for key, data in committed.items() if other.get(key) != data and "/shards/" not in key} == set()
    check = check_nights(other)
    assert check.is_good, check
    alone = Storage(str(tmp_path / "alone"))
    run_test_night(inbox, alone, StandInDrafter(), num_workers=0)
    assert committed_digest(other) == committed_digest(alone)
    collect_garbage(other, min_age_h=0, remove=True)
    assert check_nights(other).is_good
