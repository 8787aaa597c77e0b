"""A delivery that could deliver nothing has failed; one that had nothing to deliver is done."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from crrg.cli.main import app
from crrg.config.references import DeliverySummary
from crrg.errors import CrrgError
from crrg.operations.delivery.ending import check_delivered, exit_code
from tests.support.delivered_night import DeliverableNight
from tests.support.keys import KEY

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")


@pytest.mark.parametrize(
    ("num_delivered", "num_unchanged", "reasons", "code"),
    [
        (0, 0, {}, 0),
        (2, 0, {}, 0),
        (1, 0, {"ARCHIVE.REFUSED": 5}, 0),
        (0, 8, {"CHANGED.GONE": 1}, 0),
        (0, 0, {"ARCHIVE.REFUSED": 1}, 1),
        (0, 0, {"IDENTITY.NO_DICOM": 3, "CHANGED.GONE": 1}, 1),
        (0, 0, {"IDENTITY.NO_DICOM": 3, "WITHHELD.NIGHT": 2, "IDENTITY.FORGOTTEN": 1}, 0),
    ],
)
def test_a_delivery_has_failed_where_nothing_could_be_delivered(num_delivered, num_unchanged, reasons, code):
    summary = DeliverySummary(
        num_studies=9, num_delivered=num_delivered, num_unchanged=num_unchanged, num_objects_sent=0, reasons=reasons
    )
    assert exit_code(summary) == code
    if code:
        told = ", ".join(f"{name} {number}" for name, number in sorted(reasons.items()))
        with pytest.raises(CrrgError, match=f"nothing was delivered: {told}"):
            check_delivered(summary)
    else:
        check_delivered(summary)


def test_the_command_tells_what_was_not_delivered_and_exits_with_1(tmp_path, monkeypatch):
    night = DeliverableNight(tmp_path)
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    monkeypatch.setenv("CRRG_IDENTIFIED_ROOT", night.zone.root)
    asked = ["deliver", "--inbox", night.inbox.root, "--form", "fhir", "--root", night.root.root]
    kept = {each.key: night.inbox.get(each.key) for each in night.inbox.list_objects()}
    for key in kept:
        night.inbox.delete(key)
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert "CHANGED.GONE" in done.output
    for key, data in kept.items():
        night.inbox.put(key, data)
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert CliRunner().invoke(app, asked).exit_code == 0
