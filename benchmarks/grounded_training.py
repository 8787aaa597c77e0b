"""What an archive without boxes and labels teaches once it is grounded (``make bench-grounding``).

Four bundles of the preset ``tiny`` are trained and scored on the same fresh drawn studies: on a small cohort with
scene graphs, the annotated set that somebody has; on another, larger cohort of which only films and report texts are
given, with regions from ``crrg ground`` by the first bundle's detector and labels read out of the reports, once with
what reports do not mention as unknown and once as absent; and on that same cohort with its scene graphs and drawn
labels, as if it had been annotated. Goes on where it was stopped.
Run: ``python -m benchmarks.grounded_training --root ROOT [--annotated 600] [--archive 1600] [--fresh 300]``
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.config.models import FusionSettings
from crrg.config.overrides import ClipOverrides, SelectorOverrides
from crrg.config.references import BundleRef, DatasetRef
from crrg.config.running import GroundConfig, RetrainConfig
from crrg.data.dataset.pairs import read_pairs
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.device import resolve_device
from crrg.domain.bundle import BundleFiles
from crrg.domain.study import Split
from crrg.evaluation.scorecard import Scorecard
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.ingest.ground import ground
from crrg.operations.ingest.ingest import ingest
from crrg.operations.phantom import draw_phantom
from crrg.operations.registry.assemble import assemble_fused
from crrg.operations.scoring.cases import Case, fit_baselines
from crrg.operations.scoring.score import score_cases
from crrg.operations.training.train import train_stages
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

SEEDS = {"annotated": 101, "archive": 102, "fresh": 103}
SIZE = 256
FIGURES = (
    "detection/mean_region_iou", "selection/f1", "classification/mean_auc", "classification/mean_ece", "rgrg/bleu_4",
    "rgrg/rouge_l", "clinical/micro_f1",
)  # fmt: skip
KEPT_COLUMNS = ("patient_id", "study_id", "indication", "findings", "impression")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--annotated", type=int, default=600)
    parser.add_argument("--archive", type=int, default=1600)
    parser.add_argument("--fresh", type=int, default=300)
    options = parser.parse_args()
    cohorts: Path = options.root.absolute()
    for name, seed in SEEDS.items():
        if not (cohorts / name / "truth.parquet").exists():
            draw_phantom(str(cohorts / name), getattr(options, name), seed, SIZE, workers=os.cpu_count() or 1)
    only_texts(cohorts / "archive", cohorts / "only-texts")
    bench = Bench(cohorts)
    annotated = bench.train(bench.ingest("annotated"))
    grounded = bench.ground(bench.ingest("only-texts"), bench.storage.url(annotated.prefix))
    reference = bench.ingest("archive")
    bundles = {
        f"{options.annotated} studies with scene graphs": annotated,
        f"{options.archive} films with texts, grounded by that detector": bench.train(grounded),
        "the same, unmentioned findings absent": bench.train(grounded, unmentioned_absent=True),
        f"the same {options.archive} with scene graphs and drawn labels": bench.train(reference),
    }
    fresh = bench.ingest("fresh")
    show(
        {
            name: bench.score(read_bundle(bench.storage, bundle), reference, fresh, Split)
            for name, bundle in bundles.items()
        }
    )
    return 0


class Bench:
    """One root with its datasets and bundles; what is finished is found again by the library itself."""

    def __init__(self, cohorts: Path) -> None:
        self.cohorts = cohorts
        self.storage = Storage(str(cohorts / "root"))
        self.settings = Settings(root=str(cohorts / "root"))

    def ingest(self, name: str) -> DatasetRef:
        """Return the dataset of a cohort."""
        config = IngestConfig(source=(str(self.cohorts / name),), dataset=name, image_size=SIZE)
        return ingest(config, self.storage, Pseudonyms(b"benchmark" * 4)).dataset

    def ground(self, dataset: DatasetRef, model: str) -> DatasetRef:
        """Return the dataset with regions found by the detector of a bundle, given by its folder."""
        form = GroundConfig(dataset=dataset.name, dataset_version=dataset.version, model=model)
        return ground(form, self.storage, self.settings)

    def train(self, dataset: DatasetRef, *, unmentioned_absent: bool = False) -> BundleRef:
        """Return the bundle of a dataset."""
        form = RetrainConfig(
            dataset=dataset.name, dataset_version=dataset.version, preset="tiny",
            selector=SelectorOverrides(unmentioned_absent=unmentioned_absent),
            clip=ClipOverrides(unmentioned_absent=unmentioned_absent),
            fusion=FusionSettings(unmentioned_absent=unmentioned_absent),
        )  # fmt: skip
        stages = train_stages(form.stages(), form.stage_config(), self.storage, self.settings)
        return assemble_fused(stages, form, self.storage)

    def score(self, bundle: BundleFiles, known: DatasetRef, films: DatasetRef, splits: Iterable[Split]) -> Scorecard:
        """Score a bundle on splits of a dataset; the baselines know another, or its other splits."""
        key = f"scores/{bundle.bundle_id}-{films.name}.json"
        if self.storage.exists(key):
            return Scorecard.from_dict(self.storage.get_json(key))
        pipeline = ReportPipeline.from_bundle(bundle, resolve_device("auto"))
        pairs = list(chain.from_iterable(read_pairs(self.storage, films, split) for split in splits))
        films = [pair.film for pair in pairs if pair.film is not None]
        drafts = [draft for first in range(0, len(films), 64) for draft in pipeline.draft(films[first : first + 64])]
        cases = [Case(pair, draft) for pair, draft in zip(pairs, drafts, strict=True)]
        card = score_cases(cases, fit_baselines(self.storage, known))
        self.storage.put(key, json.dumps(card.to_dict()).encode())
        return card


def only_texts(cohort: Path, target: Path) -> None:
    """Lay out a cohort as an archive: films and a report table, without scene graphs, boxes and labels."""
    films = {path.stem: path for path in sorted((cohort / "dicom").rglob("*.dcm"))}
    rows = []
    with (cohort / "reports.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            place = target / "films" / films[row["instance_id"]].name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.hardlink_to(films[row["instance_id"]])
            rows.append({"file": f"films/{place.name}", **{name: row[name] for name in KEPT_COLUMNS}})
    with (target / "reports.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", *KEPT_COLUMNS])
        writer.writeheader()
        writer.writerows(rows)


def show(cards: Mapping[str, Scorecard], figures: Sequence[str] = FIGURES, *, with_baselines: bool = False) -> None:
    """Print a table: each figure of each bundle, and where asked the baselines, which are the same for all."""
    names = [*cards, *(["baselines"] if with_baselines else [])]
    print(f"| figure | {' | '.join(names)} |\n| --- |{' ---: |' * len(names)}")
    for name in figures:
        found = [[each for each in card if each.name == name] for card in cards.values()]
        cells = [f"{first.value:.3f} ({first.low:.3f} to {first.high:.3f})" for first, *_ in found]
        if with_baselines:
            cells.append(", ".join(f"{each.baseline_name} {each.baseline:.3f}" for each in found[0]))
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
