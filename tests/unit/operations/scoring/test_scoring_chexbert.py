"""CheXbert's figures of drafts, from an imported folder to the scorecard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.classification.published import TextSizes
from benchmarks.classification.published_files import bert_shapes, random_state
from crrg.config.references import BundleRef, DatasetRef
from crrg.config.running import EvaluateConfig
from crrg.data.published_tokenizers import bert_tokenizer
from crrg.domain.labels import LABELS
from crrg.domain.regions import NUM_REGIONS
from crrg.domain.report import Report
from crrg.domain.study import DraftReport, Film, Pair, Split, ViewPosition
from crrg.errors import ModelError
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.importers.chexbert import read_chexbert
from crrg.importers.imported import write_import
from crrg.importers.torch_file import TorchContents
from crrg.operations.registry.importing import load_report_labeler
from crrg.operations.scoring.cases import Baselines, Case
from crrg.operations.scoring.chexbert import labels_of_each, with_chexbert
from crrg.operations.scoring.evaluate import scorecard_key

CPU = torch.device("cpu")
PARTS = ("f1", "precision", "recall", "accuracy")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(296))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = {f"bert.{name}": shape for name, shape in bert_shapes(TextSizes(num_layers=1)).items()}
    for number, label in enumerate(LABELS):
        num_classes = 2 if label == "No Finding" else 4
        shapes |= {f"linear_heads.{number}.weight": (num_classes, 128), f"linear_heads.{number}.bias": (num_classes,)}
    state = {f"model_state_dict.module.{name}": value for name, value in random_state(shapes).items()}
    out = tmp_path_factory.mktemp("chexbert")
    stage = read_chexbert(TorchContents(state, {}, {}), bert_tokenizer(WORDS, lower_case=True))
    write_import([stage], out, "chexbert", "as published")
    return out


def film(number: int) -> Film:
    pixels = np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)
    return Film(pixels, 320, 320, ViewPosition.PA, None, False, b"")


def case(number: int, draft: str, report: str | None) -> Case:
    pair = Pair(
        patient_id=str(number), study_id=str(number), instance_id=str(number), film=film(number),
        report=Report(findings=report), regions=(), labels=dict.fromkeys(LABELS), label_source="drawn",
        source="phantom", source_digest=bytes(32), split=Split.TEST,
    )  # fmt: skip
    labels = dict.fromkeys(LABELS, 0)
    return Case(pair, DraftReport(draft, "", (), dict.fromkeys(LABELS, 0.0), labels, 1.0, ()))


def known(findings: list[str]) -> Baselines:
    """Return baselines whose training films are those of the cases, in the same order."""
    return Baselines(
        mean_boxes=np.zeros((NUM_REGIONS, 4)),
        usual_regions=np.zeros(NUM_REGIONS, dtype=bool),
        thumbnails=np.stack([film(number).pixels for number in range(len(findings))]).astype(float),
        labels=np.zeros((len(findings), len(LABELS))),
        findings=findings,
        texts=findings,
        constant=findings[0],
    )


def test_drafts_that_repeat_their_reports_agree_with_them_and_others_less(folder: Path) -> None:
    reports = [f"word{number} word{3 * number}" for number in range(8)]
    labels = load_report_labeler(folder, CPU).label_reports(reports)
    assert len({tuple(values.values()) for values in labels}) > 2
    before = Scorecard((Figure("rgrg/bleu_4", 0.1),), 9, {"split": "test"})
    same = [case(number, text, text) for number, text in enumerate(reports)]
    found = with_chexbert(before, [*same, case(9, "word1", None)], known(reports), folder, CPU)
    figures = list(found)[1:]
    names = {f"chexbert/{name}_{part}" for name in ("micro5", "micro14", "example14") for part in PARTS}
    assert names <= {figure.name for figure in figures}
    assert any(figure.is_detail and figure.name.endswith("_f1") for figure in figures), "single labels"
    rivals = ["all positive", "best constant report", "nearest neighbour", "always normal"]
    assert [figure.baseline_name for figure in figures] == rivals * (len(figures) // 4)
    # the nearest training film of each is itself
    assert all(figure.value == figure.baseline for figure in figures if figure.baseline_name == "nearest neighbour")
    assert found["chexbert/micro5_f1"] == found["chexbert/micro14_accuracy"] == 1.0
    assert (found.num_studies, found.subject) == (9, {"split": "test"})
    turned = [case(number, reports[number - 3], text) for number, text in enumerate(reports)]
    assert with_chexbert(before, turned, known(reports), folder, CPU)["chexbert/micro14_f1"] < 1.0
    assert with_chexbert(before, [case(9, "word1", None)], known(reports), folder, CPU) == before


def test_figures_of_their_own_leave_empty_drafts_out_with_their_reports(folder: Path) -> None:
    reports = [f"word{number} word{3 * number}" for number in range(8)]
    nothing = Scorecard((), 8)
    drafts = [" ", "", *reports[1:7]]
    cases = [case(number, draft, report) for number, (draft, report) in enumerate(zip(drafts, reports, strict=True))]
    found = list(with_chexbert(nothing, cases, known(reports), folder, CPU))
    rest = list(with_chexbert(nothing, cases[2:], known(reports), folder, CPU))
    told = [figure for figure in found if figure.name.endswith("_nonempty_only")]
    assert told == [replace(each, name=f"{each.name}_nonempty_only") for each in rest], "interval and baselines too"
    assert {f"chexbert/{name}_nonempty_only" for name in ("micro5_f1", "example14_f1")} <= {each.name for each in told}
    values = {figure.name: figure.value for figure in found}
    assert values["chexbert/example14_accuracy_nonempty_only"] != values["chexbert/example14_accuracy"]
    only_empty = with_chexbert(nothing, cases[:2], known(reports), folder, CPU)
    assert not [figure for figure in [*rest, *only_empty] if figure.name.endswith("_nonempty_only")]


def test_a_text_that_stands_several_times_is_read_once() -> None:
    read: list[str] = []

    def label(texts: Sequence[str]) -> list[dict[str, int]]:
        read.extend(texts)
        return [{"Edema": len(text)} for text in texts]

    columns = labels_of_each(label, [["a", "bb"], ["bb", "bb"], []])
    assert columns == [[{"Edema": 1}, {"Edema": 2}], [{"Edema": 2}, {"Edema": 2}], []]
    assert read == ["a", "bb"]


def test_a_scorecard_with_chexbert_lies_elsewhere_than_one_without(folder: Path) -> None:
    bundle = BundleRef.model_construct(bundle_id="b")
    dataset = DatasetRef.model_construct(name="d", version="v")
    plain = scorecard_key(bundle, dataset, EvaluateConfig())
    assert scorecard_key(bundle, dataset, EvaluateConfig(chexbert=str(folder))).startswith(f"{plain[:-5]}-chexbert-")
    with pytest.raises(ModelError, match="no imported chexbert"):
        scorecard_key(bundle, dataset, EvaluateConfig(chexbert=str(folder / "absent")))
