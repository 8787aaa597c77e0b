"""A draft is shown beside its own film, also where another film came under its identifier in the same night."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crrg.exports.page_pictures import film_of, find_pictures
from crrg.ledger.manifest import read_manifests, run_prefix
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.storage import Storage
from tests.support.drawn_night import DATE, PSEUDONYMS, StandInDrafter, dicom_bytes, run_test_night


def picture(tmp_path: Path, name: str, films: dict[str, int]) -> bytes:
    """Return the picture after a night over films of one identifier, by key and in order of age; each is a shard."""
    inbox, root = Storage(str(tmp_path / name / "inbox")), Storage(str(tmp_path / name / "root"))
    for age, (key, seed) in enumerate(films.items()):
        inbox.put(key, dicom_bytes(seed, instance="7"))
        os.utime(inbox.url(key), (1_700_000_000 + age,) * 2)
    drafter = StandInDrafter()
    summary = run_test_night(inbox, root, drafter, num_workers=0, shard_size=1)
    assert (summary.num_accepted, drafter.num_drafted) == (1, len(films))
    (manifest,) = read_manifests(root)
    index = root.get_json(manifest.index_key)
    (key,) = (key for key in index if film_of(key))
    shown = find_pictures(index).film(PSEUDONYMS.instance("2.25.9.7"))
    assert key == f"{run_prefix(DATE, manifest.run_id)}/review/{shown}"
    assert shown.encode() in root.get(f"{run_prefix(DATE, manifest.run_id)}/review/data-00000.js")
    assert index[key] == root.sha256(key)
    assert check_nights(root).is_good
    return root.get(key)


@pytest.mark.parametrize("films", [{"a.dcm": 1, "b.dcm": 2, "c.dcm": 3}, {"c.dcm": 1, "b.dcm": 2, "a.dcm": 3}])
def test_a_draft_stands_beside_its_own_film(tmp_path, monkeypatch, films):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    assert picture(tmp_path, "several", films) == picture(tmp_path, "alone", {"a.dcm": 1})
