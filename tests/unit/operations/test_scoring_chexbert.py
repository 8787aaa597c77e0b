"""CheXbert's figures of drafts, from an imported folder to the scorecard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.classification.published import TextSizes
from benchmarks.classification.published_files import bert_shapes, random_state
from crrg.config.references import BundleRef, DatasetRef
from crrg.config.running import EvaluateConfig
from crrg.data.published_tokenizers import bert_tokenizer
from crrg.domain.labels import LABELS
from crrg.domain.report import Report
from crrg.domain.study import DraftReport, Pair, Split
from crrg.errors import ModelError
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.importers.chexbert import read_chexbert
from crrg.importers.imported import write_import
from crrg.importers.torch_file import TorchContents
from crrg.operations.evaluate import scorecard_key
from crrg.operations.importing import load_report_labeler
from crrg.operations.scoring_cases import Case
from crrg.operations.scoring_chexbert import with_chexbert

CPU = torch.device("cpu")
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


def case(number: int, draft: str, report: str | None) -> Case:
    pair = Pair(
        patient_id=str(number), study_id=str(number), instance_id=str(number), film=None,
        report=Report(findings=report), regions=(), labels=dict.fromkeys(LABELS), label_source="drawn",
        source="phantom", source_digest=bytes(32), split=Split.TEST,
    )  # fmt: skip
    labels = dict.fromkeys(LABELS, 0)
    return Case(pair, DraftReport(draft, "", (), dict.fromkeys(LABELS, 0.0), labels, 1.0, ()))


def test_drafts_that_repeat_their_reports_agree_with_them_and_others_less(folder: Path) -> None:
    reports = [f"word{number} word{3 * number}" for number in range(8)]
    labels = load_report_labeler(folder, CPU).label_reports(reports)
    assert len({tuple(values.values()) for values in labels}) > 2
    before = Scorecard((Figure("rgrg/bleu_4", 0.1),), 9, {"split": "test"})
    same = [case(number, text, text) for number, text in enumerate(reports)]
    found = with_chexbert(before, [*same, case(9, "word1", None)], folder, CPU)
    assert [figure.name for figure in found] == [
        "rgrg/bleu_4", "chexbert/micro5_f1", "chexbert/micro14_f1", "chexbert/example14_f1",
    ]  # fmt: skip
    assert found["chexbert/micro5_f1"] == found["chexbert/micro14_f1"] == 1.0
    assert (found.num_studies, found.subject) == (9, {"split": "test"})
    turned = [case(number, reports[number - 3], text) for number, text in enumerate(reports)]
    assert with_chexbert(before, turned, folder, CPU)["chexbert/micro14_f1"] < 1.0


def test_a_scorecard_with_chexbert_lies_elsewhere_than_one_without(folder: Path) -> None:
    bundle = BundleRef.model_construct(bundle_id="b")
    dataset = DatasetRef.model_construct(name="d", version="v")
    plain = scorecard_key(bundle, dataset, EvaluateConfig())
    assert scorecard_key(bundle, dataset, EvaluateConfig(chexbert=str(folder))).startswith(f"{plain[:-5]}-chexbert-")
    with pytest.raises(ModelError, match="no imported chexbert"):
        scorecard_key(bundle, dataset, EvaluateConfig(chexbert=str(folder / "absent")))
