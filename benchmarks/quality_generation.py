"""Quality of generation: a bundle on unseen cohorts, real lung boxes out of fold, and two architectures compared.

Run: ``python -m benchmarks.quality_generation --root ROOT [--pieces lungs,drawn,openi,architectures]``. The root must
hold a bundle and the dataset ``demo`` (``make demo`` or ``make quality`` make both); of several bundles the champion is
measured, where there is none the newest. Every finished measurement is noted in ``ROOT/generation/pieces.json`` as it
ends (``--folder`` for another place), so that a call that was stopped is gone on with by the next, unless the code that
makes it has changed since (``provenance``); each call writes ``report.md`` of what there is. ``lungs`` and ``openi``
need ``CRRG_OPEN_DATA``. ``--device`` is for the bundle's drafts and the lungs; architectures are compared on the CPU,
whose seconds are their budget.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from benchmarks.generation_quality.architectures import Arena, Contest
from benchmarks.generation_quality.cohort import TRAINING_DATASET, Cohort, draw, measure_cohort
from benchmarks.generation_quality.jury import Jury
from benchmarks.generation_quality.lungs import (
    CPU,
    LUNG_PRESET,
    NUM_FOLDS,
    NUM_STEPS,
    found_lungs,
    in_pictures,
    lung_piece,
    lung_training,
    measure_fold,
    read_lung_films,
    summarise,
    worst_picture,
)
from benchmarks.generation_quality.provenance import drafting_code, preset_of, scoring_code
from benchmarks.generation_quality.report import markdown, unmet
from benchmarks.generation_quality.variants import VARIANTS
from benchmarks.real.training_data import LUNGS, REPORTS
from benchmarks.resumable import Table
from benchmarks.roots import find_bundle
from crrg.config.base import Device, Preset, Settings
from crrg.config.presets import preset_training
from crrg.data.dataset.pairs import resolve_dataset
from crrg.data.dataset.spaced import sampled_films
from crrg.device import resolve_device
from crrg.domain.study import Split
from crrg.inference.pipeline import ReportPipeline
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

logger = logging.getLogger(__name__)

EXIT_UNMET = 1
PIECES = ("lungs", "drawn", "openi", "architectures")
DATASETS = {"drawn": "quality-drawn", "openi": "quality-openi"}
"""Pieces that draw a cohort of their own, and the dataset it becomes."""
NEEDS_OPEN_DATA = {"lungs": f"{LUNGS}/boxes.csv", "openi": f"{REPORTS}/reports.csv"}
"""Pieces that need a collection, and the file of it that must be there."""


class Bench:
    """A root, its bundle, and the table of finished measurements."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Find the bundle; nothing is loaded yet."""
        self.options = options
        self.storage = Storage(options.root)
        self.bundle = find_bundle(self.storage, options.bundle)
        self.folder = options.folder or Path(options.root, "generation")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.table = Table(self.folder / "pieces.json")
        self.open_data = Settings().open_data
        self.device = resolve_device(options.device)
        self.end = time.monotonic() + 60 * options.minutes

    def pipeline(self, device: torch.device | None = None) -> ReportPipeline:
        """Return the bundle's stages, loaded anew."""
        return ReportPipeline.from_bundle(read_bundle(self.storage, self.bundle), device or self.device)

    def how_to_draft(self) -> str:
        """Return where the bundle lies, and the command that drafts with it."""
        root, place = self.storage.root, self.storage.url(self.bundle.prefix)
        return (
            f"Bundle `{self.bundle.bundle_id}`, in `{place}`; "
            f"`crrg predict FILE --out FOLDER --root {root} --model {place}` drafts with it."
        )

    def is_over(self) -> bool:
        """Return whether the time is up, and say so."""
        if time.monotonic() > self.end:
            logger.info("time is up; call again to go on")
            return True
        return False

    def run(self, piece: str) -> None:
        """Measure what a piece lacks, or say why it cannot be measured here."""
        needed = NEEDS_OPEN_DATA.get(piece)
        if needed and not (self.open_data and (self.open_data / needed).is_file()):
            logger.warning(
                "%s: skipped, %s is not there; set CRRG_OPEN_DATA to a folder with it (docs/real-data.md)",
                piece,
                needed,
            )
            return
        if piece == "lungs":
            self._lungs()
            return
        if piece == "architectures":
            self._architectures()
            return
        options = self.options
        num_studies = options.studies if piece == "drawn" else options.openi_studies
        cohort = Cohort(DATASETS[piece], piece == "openi", num_studies, options.seed)
        of = f"{self.bundle.bundle_id[:12]}/{options.seed}/{num_studies}{self._on()}"
        name = f"{piece}/{of}/{scoring_code()}"
        self.table.fill(
            name,
            lambda: measure_cohort(self.pipeline(), self.storage, cohort, self.folder),
        )

    def _architectures(self) -> None:
        options = self.options
        contest = Contest(
            settings=preset_training(options.architecture_preset),
            budget_s=0.0 if options.own_steps else options.budget,
            num_seeds=options.architecture_seeds,
            base_channels=options.paper_channels,
            dataset=resolve_dataset(self.storage, TRAINING_DATASET, ""),
            root=self.storage,
            variants=tuple(options.variants),
            with_paper=not (options.without_paper or options.own_steps),
        )
        arena = Arena(contest, self.table, Storage(str(self.folder / "training")), self.is_over)
        if not arena.train_all() or self.is_over():
            return
        cohort = draw(self.storage, Cohort(DATASETS["drawn"], False, options.studies, options.seed))
        pairs = [pair for pair, _ in sampled_films(self.storage, cohort, Split.TEST)]
        Jury(arena, pairs[: options.architecture_films], lambda: self.pipeline(CPU)).score_all()

    def _lungs(self) -> None:
        assert self.open_data is not None
        settings = lung_training(self.options.lung_steps)
        lungs = read_lung_films(self.open_data, settings.architecture.input_size)
        work = Storage(str(self.folder / "training"))
        prefix = lung_piece(self.options.lung_steps, self.options.lung_seed, self.device)
        for fold in range(NUM_FOLDS):
            if self.is_over():
                return
            self.table.fill(
                f"{prefix}/fold{fold}",
                lambda fold=fold: measure_fold(lungs, fold, settings, self.options.lung_seed, work, self.device),
            )
        drawn = f"lungs/drawn-only/{self.bundle.bundle_id[:12]}{self._on()}/{drafting_code()}"
        self.table.fill(drawn, self._drawn_only)
        films = {
            name: film
            for fold in range(NUM_FOLDS)
            for name, film in self.table.rows[f"{prefix}/fold{fold}"]["films"].items()
        }
        found, device = self.table.rows[drawn], self.device.type
        # summed up anew, in case that is done otherwise than by the call that measured
        self.table.note(f"{prefix}/out-of-fold", {**summarise(films, lungs), "preset": LUNG_PRESET, "device": device})
        self.table.note(
            f"{drawn}/summary", {**summarise(found["films"], lungs), "preset": found["preset"], "device": device}
        )
        worst = self.table.rows[f"{prefix}/out-of-fold"]["worst_film"]
        (self.folder / "worst-lungs.png").write_bytes(
            worst_picture(self.open_data, lungs, worst, films[str(worst)]["boxes"])
        )

    def _on(self) -> str:
        """Return what tells rows of a GPU from those of the CPU."""
        return "" if self.device == CPU else f"-{self.device.type}"

    def _drawn_only(self) -> dict[str, object]:
        """Return what the bundle's detector, trained on drawings, finds, beside the mean drawn box; and its preset."""
        assert self.open_data is not None
        model = self.pipeline().detector
        lungs = read_lung_films(self.open_data, model.architecture.input_size)
        sizes = lungs.films.original_sizes
        priors = np.broadcast_to(model.prior_boxes.cpu().numpy(), (len(sizes), *model.prior_boxes.shape))
        means = in_pictures(priors, sizes, model.architecture.input_size)
        found = found_lungs(model, lungs, np.arange(len(sizes)), means)
        return {"films": found, "preset": preset_of(model.architecture)}


def read_options() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--bundle", default="", help="bundle id; empty takes the champion, else the newest")
    parser.add_argument("--folder", type=Path, default=None, help="of the results; ROOT/generation by default")
    parser.add_argument("--pieces", default=",".join(PIECES))
    parser.add_argument("--studies", type=int, default=1000, help="of the drawn cohort")
    parser.add_argument("--openi-studies", type=int, default=1000, help="of the cohort drawn for Open-i's reports")
    parser.add_argument("--seed", type=int, default=20_261_129, help="of the cohorts that are drawn here")
    parser.add_argument("--lung-steps", type=int, default=NUM_STEPS, help="training steps per fold")
    parser.add_argument("--lung-seed", type=int, default=0, help="of folds and weights")
    parser.add_argument("--budget", type=float, default=225.0, help="CPU seconds of one training of an architecture")
    parser.add_argument(
        "--own-steps", action="store_true", help="train `crrg` and its variants as the preset says, without `paper`"
    )
    parser.add_argument("--architecture-preset", choices=get_args(Preset), default="tiny", help="sizes of `crrg`")
    parser.add_argument("--architecture-seeds", type=int, default=3, help="runs of each architecture")
    parser.add_argument("--architecture-films", type=int, default=300, help="of the drawn cohort, to score both on")
    parser.add_argument(
        "--variants",
        nargs="*",
        default=[],
        choices=list(VARIANTS),
        help="also compare `crrg` with one thing changed",
    )
    parser.add_argument("--without-paper", action="store_true", help="compare `crrg` with its variants alone")
    parser.add_argument("--paper-channels", type=int, default=0, help="of the narrowed backbone; 0 takes the closest")
    parser.add_argument(
        "--minutes", type=float, default=600.0, help="start nothing after this long; call again to go on"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--device", choices=get_args(Device), default="cpu", help="of the bundle's drafts and the lungs"
    )
    return parser.parse_args()


def main() -> int:
    """Measure what is missing, write the report, and fail where a promise does not hold."""
    options = read_options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    for piece in options.pieces.split(","):
        if not bench.is_over():
            bench.run(piece)
        (bench.folder / "report.md").write_text(f"{bench.how_to_draft()}\n\n{markdown(bench.table.rows)}")
    logger.info("tables in %s", bench.folder / "report.md")
    for line in unmet(bench.table.rows):
        logger.error("does not hold: %s", line)
    return EXIT_UNMET if unmet(bench.table.rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
