"""What a contender of the comparison of architectures is scored with: nothing that was fitted to another's detector."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.generation_quality import jury
from benchmarks.generation_quality.contenders import Parts
from crrg.config.models import DecodingSettings
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.regions import RegionThresholds
from crrg.inference.visibility import Visibility


def test_a_contender_is_not_judged_by_curves_of_the_bundles_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    known = RegionThresholds(0.5, 0.5, 0.5, np.full(NUM_LABELS, 0.5, np.float32))
    parts = Parts("detector", "selector", "generator", known)
    arena = SimpleNamespace(
        table=SimpleNamespace(rows={"run": {"parts": {}}}),
        load=lambda _: parts,
        contender=lambda _: SimpleNamespace(decoding=DecodingSettings()),
        films=SimpleNamespace(tokenizer="vocabulary"),
    )
    bundle = ReportPipeline(
        bundle_id="b", detector="own", selector="own", generator="own", tokenizer="own", clip="clip",
        clip_tokenizer="clip", thresholds="own", calibration="clip", similarity="clip", decoding=DecodingSettings(),
        fusion="own", visibility=Visibility(np.ones(NUM_REGIONS), np.zeros(NUM_REGIONS), 0.99),
    )  # fmt: skip
    drafters: list[ReportPipeline] = []
    monkeypatch.setattr(jury.Jury, "_cases", lambda _, drafter: drafters.append(drafter))
    monkeypatch.setattr(jury, "score_run", lambda *_: {})
    jury.Jury(arena, [], lambda: bundle)._score("run", "crrg")
    (drafter,) = drafters
    assert (drafter.detector, drafter.thresholds, drafter.clip) == ("detector", known, "clip")
    assert drafter.fusion is None
    assert drafter.visibility is None
