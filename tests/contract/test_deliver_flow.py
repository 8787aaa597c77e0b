"""The run of a delivery that could deliver nothing has failed, after its page was made."""

from __future__ import annotations

import pytest

from crrg.config.references import DeliverySummary
from crrg.config.running import DeliverConfig
from crrg.errors import CrrgError
from flows import deliver as flow
from flows import pages


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
