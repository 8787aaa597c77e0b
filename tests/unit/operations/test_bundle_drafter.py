"""The models of a bundle as operations get them: read once, and without weights that its drafts do not need."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from crrg.config.references import BundleRef
from crrg.inference.pipeline import ReportPipeline
from crrg.operations import drafter
from crrg.storage import Storage
from tests.support.random_stages import random_pipeline

BUNDLE = BundleRef(bundle_id="b" * 32, prefix="models/bundles/" + "b" * 32)


@pytest.mark.parametrize(("precision", "is_rounded"), [("exact", False), ("fast", True)])
def test_exact_weights_stay_only_where_drafts_are_exact(
    precision: Literal["exact", "fast"], is_rounded: bool, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = random_pipeline(torch.device("cpu"), precision=precision)
    monkeypatch.setattr(drafter, "read_bundle", lambda *_: None)
    monkeypatch.setattr(ReportPipeline, "from_bundle", lambda *_: made)
    monkeypatch.setattr(drafter, "_kept", {})
    found = drafter.bundle_pipeline(Storage(str(tmp_path)), BUNDLE, "cpu")
    assert found is made
    assert found.generator.is_rounded is is_rounded
    assert drafter.bundle_pipeline(Storage(str(tmp_path)), BUNDLE, "cpu") is found
