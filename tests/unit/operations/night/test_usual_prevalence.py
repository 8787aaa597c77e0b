"""What nights usually find: the share of positive drafts over the last seven dates that have a committed night."""

from __future__ import annotations

import pytest

from crrg.config.watch import NightWatch
from crrg.ledger.manifest import Manifest
from crrg.operations.night.watch import usual_prevalence
from crrg.storage import Storage, canonical_json


def committed(root: Storage, day: int, share: float, num_drafts: int, run_id: str = "r") -> Manifest:
    """Return a night of which the watch noted a share of edemas among its drafts."""
    watch = NightWatch(status="off", num_patients=1, num_drafts=num_drafts, prevalence={"Edema": share})
    key = f"watch-{day}-{run_id}"
    root.put(key, canonical_json(watch.model_dump(mode="json")))
    return Manifest(date=f"2026-11-{day:02d}", run_id=run_id, fencing=1, watch_key=key, watch_sha256=root.sha256(key))


def test_the_last_seven_dates_before_a_night_count_by_their_drafts(root):
    # the 1st is the eighth before; of the 9th there are two runs; the 20th is the night itself, the 21st a later one
    nights = [committed(root, day, 0.0, 10) for day in (3, 4, 5, 6, 7, 8)]
    nights += [committed(root, 1, 1.0, 1000), committed(root, 20, 1.0, 1000), committed(root, 21, 1.0, 1000)]
    nights += [committed(root, 9, 1.0, 20), committed(root, 9, 0.5, 20, "s")]
    usual = usual_prevalence(root, "2026-11-20", nights)
    assert usual["Edema"] == pytest.approx(30 / 100)
    assert usual["Fracture"] == 0.0


def test_before_the_first_night_nothing_is_usual(root):
    assert usual_prevalence(root, "2026-11-03", [committed(root, 3, 1.0, 10)]) == {}
