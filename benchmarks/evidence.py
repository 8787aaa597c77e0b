"""Whether maps of what a sentence rests on point at what was drawn: a pointing game on a drawn cohort.

Run: ``python -m benchmarks.evidence --root ROOT``. The root must hold a bundle (``make demo`` makes one). A cohort of
another seed is drawn beside it and drafted. A case is a finding and a sentence that states it for a region where it was
drawn; the map points right where its strongest cell shows the finding, that is, at least a tenth of the cell's pixels
are changed by it. Beside it: a random cell, and the cell in the middle of the sentence's box.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.classification.cohorts import draw_cohort
from benchmarks.roots import find_bundle
from crrg.config.evidence import EvidenceSettings
from crrg.data.dataset.pairs import resolve_dataset
from crrg.data.dataset.spaced import sampled_films
from crrg.data.parquet import read_parquet
from crrg.data.phantom.cohort import TRUTH_KEY
from crrg.data.phantom.painter import finding_covers
from crrg.data.phantom.sampler import sample_scene
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.labels import POSITIVE
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.study import DraftReport, Film, Split
from crrg.evaluation.bootstrap import bootstrap_sums
from crrg.evaluation.labeler import label_report
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.root import open_root
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

logger = logging.getLogger(__name__)

DATASET = "evidence-drawn"
CHANGED = 0.1
"""A pixel belongs to a finding where its density changes by this share of the largest change, a cell by this share."""
WAYS = ("map", "its words", "its abnormality", "middle of the box", "random cell")


def shown_cells(cover: NDArray[np.float32], cells: int) -> NDArray[np.bool_]:
    """Return which cells ``[G, G]`` of a film show a finding that changes it by ``[H, W]``."""
    changed = cover > CHANGED * cover.max()
    height, width = cover.shape
    rows, columns = (np.arange(height) * cells // height, np.arange(width) * cells // width)
    place = rows[:, None] * cells + columns[None]
    num_pixels = np.bincount(place.ravel(), minlength=cells * cells)
    num_changed = np.bincount(place.ravel(), weights=changed.ravel(), minlength=cells * cells)
    return np.asarray((num_changed >= CHANGED * num_pixels).reshape(cells, cells) & bool(changed.any()))


def points(
    film: Film, draft: DraftReport, evidence: list[SentenceEvidence], covers: list[Any], cells: int
) -> Iterator[dict[str, Any]]:
    """Yield a case for each explained sentence and each finding that it states where it was drawn."""
    for each in evidence:
        region = draft.regions[REGION_INDEX[each.region]]
        said = label_report(region.phrase or "")
        for finding, cover in covers:
            shown = shown_cells(cover, cells)
            if each.region not in finding.regions or said.get(finding.label) != POSITIVE or not shown.any():
                continue
            x1, y1, x2, y2 = region.box_xyxy
            middle = np.array([(y1 + y2) / 2 / film.original_height, (x1 + x2) / 2 / film.original_width])
            row, column = np.minimum((middle * cells).astype(int), cells - 1).tolist()
            yield {
                "kind": finding.kind,
                "map": bool(shown.flat[int(each.heat.argmax())]),
                "its words": bool(shown.flat[int(each.wording_falls.argmax())]),
                "its abnormality": bool(shown.flat[int(each.abnormality_falls.argmax())]),
                "middle of the box": bool(shown[row, column]),
                "random cell": float(shown.mean()),
            }


def measure(pipeline: ReportPipeline, storage: Storage, options: argparse.Namespace) -> dict[str, Any]:
    """Draw, draft and explain a cohort; return all cases and the seconds that a film takes."""
    name = f"{DATASET}-{options.seed}-{options.studies}"
    draw_cohort(storage, name, False, options.studies, options.seed)
    source = Storage(f"{storage.root}-source/{name}-{options.seed}-{options.studies}")
    pseudonyms = Pseudonyms(open_root()[1].pseudonym_key())
    truth = {pseudonyms.instance(row["instance_id"]): row for row in read_parquet(source.get(TRUTH_KEY)).to_pylist()}
    pairs, films = zip(*sampled_films(storage, resolve_dataset(storage, name, ""), Split.TEST), strict=True)
    drafts = pipeline.draft(films)
    settings = EvidenceSettings(max_sentences=NUM_REGIONS, cells=options.cells, patch=options.patch)
    start = time.monotonic()
    maps = pipeline.explain(films, drafts, settings)
    seconds = time.monotonic() - start
    cases: list[dict[str, Any]] = []
    for pair, film, draft, evidence in zip(pairs, films, drafts, maps, strict=True):
        row = truth[pair.instance_id]
        covers = finding_covers(
            sample_scene(options.seed, row["index"]), options.seed, max(row["width"], row["height"])
        )
        found = points(film, draft, evidence, covers, options.cells)
        cases += [{**case, "patient": pair.patient_id} for case in found]
    return {"cases": cases, "num_films": len(films), "num_maps": sum(map(len, maps)), "seconds": seconds}


def markdown(found: dict[str, Any]) -> str:
    """Return the share of cases in which each way points at the finding, with 95 % intervals over patients."""
    cases = found["cases"]
    patients = [case["patient"] for case in cases]
    lines = [
        f"{len(cases)} cases on {found['num_films']} films; {found['seconds'] / found['num_films']:.2f} s a film for "
        f"{found['num_maps'] / found['num_films']:.1f} maps.",
        "",
        "| points at the finding | share | interval |",
        "| --- | ---: | :---: |",
    ]
    for way in WAYS:
        values = np.array([[float(case[way]), 1.0] for case in cases])
        low, high = bootstrap_sums(values, lambda sums: float(sums[0] / sums[1]), patients)
        lines.append(f"| {way} | {values[:, 0].mean():.3f} | {low:.3f} to {high:.3f} |")
    lines += ["", f"| finding | cases | {' | '.join(WAYS)} |", f"| --- |{' ---: |' * (len(WAYS) + 1)}"]
    for kind in sorted({case["kind"] for case in cases}):
        rows = [case for case in cases if case["kind"] == kind]
        shares = [f"{np.mean([float(case[way]) for case in rows]):.2f}" for way in WAYS]
        lines.append(f"| {kind} | {len(rows)} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write ``evidence.json`` and ``evidence.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--bundle", default="", help="bundle id; empty takes the champion, else the newest")
    parser.add_argument("--folder", type=Path, default=None, help="of the results; ROOT/generation by default")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20_261_128)
    parser.add_argument("--cells", type=int, default=EvidenceSettings().cells)
    parser.add_argument("--patch", type=float, default=EvidenceSettings().patch)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    storage = Storage(options.root)
    pipeline = ReportPipeline.from_bundle(
        read_bundle(storage, find_bundle(storage, options.bundle)), torch.device("cpu")
    )
    found = measure(pipeline, storage, options)
    folder = options.folder or Path(options.root, "generation")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evidence.json").write_text(json.dumps(found, indent=1))
    (folder / "evidence.md").write_text(markdown(found))
    logger.info("tables in %s", folder / "evidence.md")


if __name__ == "__main__":
    main()
