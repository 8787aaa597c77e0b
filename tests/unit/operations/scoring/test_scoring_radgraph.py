"""RadGraph F1 of drafts, from the published archive to the scorecard; and of annotations made elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.classification.published_graph import GraphSizes, save_graph_archive
from crrg.cli import app
from crrg.config.references import BundleRef, DatasetRef
from crrg.config.running import EvaluateConfig
from crrg.domain.labels import LABELS
from crrg.domain.regions import NUM_REGIONS
from crrg.domain.report import Report
from crrg.domain.study import DraftReport, Film, Pair, Split, ViewPosition
from crrg.errors import ConfigError, ModelError
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.operations.registry.importing import load_report_annotator
from crrg.operations.scoring.cases import THUMBNAIL_SIZE, Baselines, Case
from crrg.operations.scoring.evaluate import scorecard_key
from crrg.operations.scoring.radgraph import score_annotations, with_radgraph

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(296))]
LEVELS = ["radgraph/simple_f1", "radgraph/partial_f1", "radgraph/complete_f1"]
REPORTS = [f"word{number} word{3 * number} word{7 * number + 1}" for number in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("radgraph")
    save_graph_archive(GraphSizes(), made / "model.tar.gz")
    (made / "vocab.txt").write_text("\n".join(WORDS))
    arguments = ["import", "radgraph", str(made / "model.tar.gz"), "--out", str(made / "out")]
    done = CliRunner().invoke(app, [*arguments, "--tokenizer", str(made / "vocab.txt")])
    assert done.exit_code == 0, done.output
    assert "credentialed health data licence" in done.stderr
    assert "| radgraph |" in done.stdout
    assert "no vocabulary" not in done.stdout
    return made / "out"


def film(number: int) -> Film:
    pixels = np.random.default_rng(number).integers(0, 256, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), dtype=np.uint8)
    return Film(
        pixels=pixels, original_width=THUMBNAIL_SIZE, original_height=THUMBNAIL_SIZE, view_position=ViewPosition.PA,
        pixel_spacing_mm=None, polarity_inverted=False, pixel_digest=bytes(32),
    )  # fmt: skip


def case(number: int, draft: str, report: str | None) -> Case:
    pair = Pair(
        patient_id=str(number), study_id=str(number), instance_id=str(number), film=film(number),
        report=Report(findings=report), regions=(), labels=dict.fromkeys(LABELS), label_source="drawn",
        source="phantom", source_digest=bytes(32), split=Split.TEST,
    )  # fmt: skip
    labels = dict.fromkeys(LABELS, 0)
    return Case(pair, DraftReport(draft, "", (), dict.fromkeys(LABELS, 0.0), labels, 1.0, ()))


def known(findings: list[str], constant: str) -> Baselines:
    """Return baselines whose training films are those of the cases, in the same order."""
    return Baselines(
        mean_boxes=np.zeros((NUM_REGIONS, 4)),
        usual_regions=np.zeros(NUM_REGIONS, dtype=bool),
        thumbnails=np.stack([film(number).pixels for number in range(len(findings))]).astype(float),
        labels=np.zeros((len(findings), len(LABELS))),
        findings=findings,
        texts=findings,
        constant=constant,
    )


def test_drafts_stand_beside_the_constant_report_and_the_nearest_films(folder: Path) -> None:
    graphs = load_report_annotator(folder, CPU).annotate(REPORTS)
    assert all(graph.entities for graph in graphs)
    assert len(set(graphs)) == len(REPORTS)
    before = Scorecard((Figure("rgrg/bleu_4", 0.1),), 9, {"split": "test"})
    same = [case(number, text, text) for number, text in enumerate(REPORTS)]
    told = known(REPORTS, REPORTS[0])
    found = with_radgraph(before, [*same, case(8, "word1", None)], told, folder, CPU)
    figures = list(found)[1:]
    assert [figure.name for figure in figures] == [name for name in LEVELS for _ in range(3)]
    rivals = ["best constant report", "nearest neighbour", "always normal"]
    assert [figure.baseline_name for figure in figures] == rivals * 3
    # the nearest training film of each is itself; the constant report is right for one
    assert [figure.value for figure in figures] == [1.0] * 9
    assert [figure.baseline for figure in figures[1::3]] == [1.0] * 3
    assert all(1 / 8 <= figure.baseline < 1.0 for figure in figures[::3])
    assert all(figure.baseline < 1.0 for figure in figures[2::3])
    assert (found.num_studies, found.subject) == (9, {"split": "test"})
    turned = [case(number, REPORTS[number - 3], text) for number, text in enumerate(REPORTS)]
    unfitted = replace(told, thumbnails=told.thumbnails[:0])
    assert {each.baseline_name for each in with_radgraph(before, same, unfitted, folder, CPU)} == {"", "always normal"}
    worse = with_radgraph(before, turned, told, folder, CPU)
    assert all(worse[name] < 1.0 for name in LEVELS)
    assert with_radgraph(before, [case(8, "word1", None)], told, folder, CPU) == before


def test_a_scorecard_with_radgraph_lies_elsewhere_than_one_without(folder: Path) -> None:
    bundle = BundleRef.model_construct(bundle_id="b")
    dataset = DatasetRef.model_construct(name="d", version="v")
    plain = scorecard_key(bundle, dataset, EvaluateConfig())
    assert scorecard_key(bundle, dataset, EvaluateConfig(radgraph=str(folder))).startswith(f"{plain[:-5]}-radgraph-")
    with pytest.raises(ModelError, match="no imported radgraph"):
        scorecard_key(bundle, dataset, EvaluateConfig(radgraph=str(folder / "absent")))


def annotation(*words: str) -> dict[str, Any]:
    entities = {
        str(number): {"tokens": word, "label": "OBS-DP", "start_ix": number, "end_ix": number, "relations": []}
        for number, word in enumerate(words)
    }
    return {"text": " ".join(words), "entities": entities, "data_source": None, "data_split": "inference"}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_annotations_made_elsewhere_are_scored_by_their_keys(tmp_path: Path) -> None:
    given = {"b": annotation("edema"), "a": annotation("effusion"), "c": annotation()}
    wanted = {"a": annotation("effusion"), "b": annotation("edema", "effusion"), "c": annotation("effusion")}
    drafts, reports = (
        write(tmp_path / name, {f"{key}{copy}": each for copy in range(6) for key, each in content.items()})
        for name, content in (("drafts.json", given), ("reports.json", wanted))
    )
    card = score_annotations(drafts, reports)
    assert [figure.name for figure in card] == LEVELS
    assert (card["radgraph/simple_f1"], card.num_studies) == (pytest.approx(5 / 9), 18)
    assert card.figures[0].low < 5 / 9 < card.figures[0].high
    # six patients, each with all three reports
    patients = write(tmp_path / "patients.json", {f"{key}{copy}": copy for copy in range(6) for key in wanted})
    (first, *_) = score_annotations(drafts, reports, patients)
    assert (first.low, first.high) == (pytest.approx(5 / 9), pytest.approx(5 / 9))
    arguments = ["radgraph-f1", str(drafts), str(reports), "--patients", str(patients)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "radgraph/simple_f1" in done.stdout
    assert "0.556 to 0.556" in done.stdout


def test_files_that_do_not_belong_together_are_refused_without_their_keys(tmp_path: Path) -> None:
    reports = write(tmp_path / "reports.json", {"secret-1": annotation("effusion"), "secret-2": annotation("edema")})
    for content, message in (
        (
            {"secret-1": annotation("effusion"), "secret-3": annotation()},
            "1 reports are missing there and 1 are unknown",
        ),
        ({"secret-1": annotation("effusion"), "secret-2": {"text": "edema"}}, "not in RadGraph's published form"),
        ([annotation("effusion")], "not a JSON object with a report under each key"),
        ({}, "not a JSON object with a report under each key"),
    ):
        with pytest.raises(ConfigError, match=message) as told:
            score_annotations(write(tmp_path / "drafts.json", content), reports)
        assert "secret" not in str(told.value)
    with pytest.raises(ConfigError, match="no JSON file to read"):
        score_annotations(tmp_path / "absent.json", reports)
    done = CliRunner().invoke(app, ["radgraph-f1", str(tmp_path / "absent.json"), str(reports)])
    assert done.exit_code == 2
