"""The run of a delivery: it has failed where nothing could be delivered, and sends to no archive that was not named."""

from __future__ import annotations

import pytest

from crrg.config.references import DeliverySummary
from crrg.config.running import DeliverConfig
from crrg.errors import ConfigError, CrrgError
from flows import deliver as flow
from flows import pages
from tasks.delivery import deliver_drafts
from tests.support.keys import KEY


@pytest.mark.parametrize(("num_delivered", "has_failed"), [(0, True), (1, False)])
def test_a_run_that_delivered_nothing_it_should_have_has_failed(monkeypatch, num_delivered, has_failed):
    summary = DeliverySummary(
        num_studies=3, num_delivered=num_delivered, num_unchanged=0, num_objects_sent=0, reasons={"ARCHIVE.REFUSED": 2}
    )
    shown: list[str] = []
    monkeypatch.setattr(flow, "deliver_drafts", lambda _: summary)
    for maker in (flow, pages):
        monkeypatch.setattr(maker, "create_markdown_artifact", lambda text, key: shown.append(text), raising=False)
    if has_failed:
        with pytest.raises(CrrgError, match=r"nothing was delivered: ARCHIVE.REFUSED 2"):
            flow.deliver.fn(DeliverConfig(inbox="inbox"))
    else:
        assert flow.deliver.fn(DeliverConfig(inbox="inbox")) == summary
    assert "ARCHIVE.REFUSED" in shown[0]


def test_a_run_sends_to_no_archive_that_was_not_named_where_it_delivers(monkeypatch, tmp_path):
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("CRRG_IDENTIFIED_ROOT", str(tmp_path / "identified"))
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    form = DeliverConfig(inbox=str(tmp_path), forms=("fhir",), send_to="https://collector.example.net/dicom-web")
    with pytest.raises(ConfigError, match="a flow run sends only to archives that CRRG_ARCHIVES names"):
        deliver_drafts.fn(form)
    assert not (tmp_path / "identified").exists()
