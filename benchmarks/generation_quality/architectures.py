"""``paper``, narrowed to our size, beside ``crrg``: same films, same CPU seconds, all tuned by equally many trials.

Each training of a stage is one measurement of the table, its weights lie beside it, so that a call that was stopped
loses one stage at most. Trials get a share of the budget and are compared on validation films; runs of three seeds get
the whole, and one run of each gets as many steps as the slower one could do. Variants of ``crrg`` are tuned, trained
and scored as it is itself; all of them can also be trained as the preset says, without budget and trials. All are
scored on films of the drawn cohort, which nothing was chosen on.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.generation_quality.budget import CPU, Limit
from benchmarks.generation_quality.contenders import Contender, Films, Order, Ours, Papers, Parts, drafting
from benchmarks.generation_quality.matching import PARTS, compare_sizes, narrow_to, networks_of
from benchmarks.generation_quality.provenance import preset_of, training_within_budget
from benchmarks.generation_quality.variants import VARIANTS
from benchmarks.resumable import Table
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import PresetTraining
from crrg.domain.study import Split
from crrg.evaluation.classification import roc_auc
from crrg.evaluation.protocols import tokenize
from crrg.evaluation.text import rouge_l_per_report
from crrg.inference.regions import RegionThresholds
from crrg.models.detector import load_detector
from crrg.models.region_heads import load_selector
from crrg.models.report_generator import load_generator
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash, read_stage
from crrg.training.detector import detection_metrics
from crrg.training.generator_scores import clinical_micro_f1, draft_films
from crrg.training.region_targets import region_targets

logger = logging.getLogger(__name__)

RATES = (1e-3, 3e-3, 1e-2)
"""Learning rates that are tried for each stage of both."""
TRIAL_SHARE = 0.25
SHARES = {"detector": 0.4, "selector": 0.25, "generator": 0.35}
"""How a budget is divided among the stages."""
CHUNK_SIZE = 50


@dataclass(frozen=True)
class Contest:
    """What is compared on what.

    Attributes:
        settings: Our networks and their training.
        budget_s: CPU seconds of one whole training; 0 = steps and learning rates are the preset's, without trials.
        num_seeds: Runs of each.
        base_channels: Of the narrowed backbone; 0 = the closest.
        dataset: Trained on.
        root: Where it lies.
        rates: Learning rates that are tried.
        variants: What is changed in ``crrg`` for a comparison with it, by the names of ``VARIANTS``.
        with_paper: Whether ``paper`` is trained as well.
    """

    settings: PresetTraining
    budget_s: float
    num_seeds: int
    base_channels: int
    dataset: DatasetRef
    root: Storage
    rates: tuple[float, ...] = RATES
    variants: tuple[str, ...] = ()
    with_paper: bool = True


class Arena:
    """Trains and scores the architectures, one measurement after the other."""

    def __init__(self, contest: Contest, table: Table, work: Storage, is_over: Callable[[], bool]) -> None:
        """Match the sizes; nothing is trained yet.

        Args:
            contest: What is compared; without a budget, ``crrg`` and its variants alone.
            table: Finished measurements.
            work: Where weights are kept.
            is_over: Whether no more is to be begun in this call.
        """
        self.contest = contest
        self.table = table
        self.work = work
        self.is_over = is_over
        settings = contest.settings
        self.films = Films(contest.root, contest.dataset, settings.generator.architecture.vocab_size)
        vocab_size = self.films.tokenizer.vocab_size
        narrowed = narrow_to(settings, vocab_size, contest.base_channels)
        self.contenders: dict[str, Contender] = {"crrg": Ours(settings)}
        if contest.with_paper:
            self.contenders["paper"] = Papers(narrowed, settings)
        changes = {f"crrg with {name}": VARIANTS[name] for name in contest.variants}
        self.variants = {name: Ours(change(settings), name) for name, change in changes.items()}
        forms = {part: getattr(narrowed, part).model_dump(mode="json") for part in PARTS}
        identity = config_hash(
            settings=settings.model_dump(mode="json"), narrowed=forms, data=contest.dataset.version,
            budget=contest.budget_s, rates=contest.rates, made_by=training_within_budget(),
        )  # fmt: skip
        self.prefix = f"architectures/{identity[:12]}"
        sizes = compare_sizes(settings, narrowed, vocab_size)
        for part, each in sizes.items():
            logger.info("parameters of %s: crrg %d, paper %d", part, each["crrg"], each["paper"])
        about = {"preset": preset_of(settings.detector.architecture), "device": CPU.type}
        about["made_by"] = training_within_budget()
        self.table.fill(
            f"{self.prefix}/sizes",
            lambda: {"sizes": sizes, "budget_s": contest.budget_s, "forms": forms, **about},
        )
        for name, variant in self.variants.items():
            self.table.fill(f"{self.prefix}/variant/{name}", functools.partial(self._describe, name, variant))

    def train_all(self) -> bool:
        """Train what is missing, all by turns so that a slow hour falls on each; return whether nothing is missing."""
        rates: dict[str, dict[str, float]] = {}
        for name in (*self.contenders, *self.variants):
            best = self.tune(name)
            if best is None:
                return False
            rates[name] = best
        for seed in range(self.contest.num_seeds):
            for name in rates:
                if not self._train_run(name, f"run/{name}/{seed}", rates[name], seed, self._limits()):
                    return False
        return self._equal_steps()

    def contender(self, name: str) -> Contender:
        """Return an architecture or a variant by its name."""
        return {**self.contenders, **self.variants}[name]

    def tune(self, name: str) -> dict[str, float] | None:
        """Return the best learning rate of each stage, tried on the best trial of the stage before, or the preset's."""
        if not self.contest.budget_s:
            return {part: getattr(self.contest.settings, part).loop.learning_rate for part in PARTS}
        best: dict[str, float] = {}
        before: dict[str, Any] = {}
        for part in PARTS:
            owner = self._trained_as(name, part)
            limit = Limit(cpu_s=TRIAL_SHARE * self.contest.budget_s * SHARES[part])
            for rate in self.contest.rates:
                if not self._fill(
                    self._trial_key(owner, part, rate), owner, part, before, Order(rate, 0, limit, is_trial=True)
                ):
                    return None
            trials = {rate: self.table.rows[self._trial_key(owner, part, rate)] for rate in self.contest.rates}
            best[part] = max(trials, key=lambda rate: trials[rate]["score"])
            before = trials[best[part]]["parts"]
        return best

    def run_keys(self) -> dict[str, list[str]]:
        """Return the last stage's key of each architecture's runs within the budget, and at equal steps."""
        seeds, names = range(self.contest.num_seeds), (*self.contenders, *self.variants)
        keys = {name: [f"{self.prefix}/run/{name}/{seed}/generator" for seed in seeds] for name in names}
        return keys | {f"{name}, equal steps": [f"{self.prefix}/steps/{name}/generator"] for name in self._paced_by()}

    def load(self, record: dict[str, Any]) -> Parts:
        """Read the parts of a finished training."""
        found = Parts()
        for part, result in record.items():
            config, tensors = read_stage(self.work, StageResult.model_validate(result))
            if part == "detector":
                found = replace(found, detector=load_detector(config, tensors, CPU))
            elif part == "selector":
                found = replace(found, selector=load_selector(config, tensors, CPU))
            else:
                vocabulary = self.films.tokenizer.to_bytes()
                found = replace(found, generator=load_generator(config, tensors, vocabulary))
            if config.get("limits"):
                found = replace(found, thresholds=_read_thresholds(config["limits"]))
        return found

    def _trained_as(self, name: str, part: str) -> str:
        """Return who trains a stage: ``crrg`` for a variant that differs from it in later stages alone."""
        variant, ours = self.variants.get(name), self.contest.settings
        if variant is None:
            return name
        so_far = PARTS[: PARTS.index(part) + 1]
        is_same = all(getattr(variant.settings, each) == getattr(ours, each) for each in so_far)
        return "crrg" if is_same else name

    def _describe(self, name: str, variant: Ours) -> dict[str, Any]:
        """Return what a variant is, and its parameters beside ours."""
        settings, vocab_size = self.contest.settings, self.films.tokenizer.vocab_size
        networks = networks_of(variant.settings, vocab_size)
        sizes = compare_sizes(settings, networks, vocab_size, name, "compare it at another --architecture-preset")
        return {"sizes": sizes, "forms": {part: getattr(networks, part).model_dump(mode="json") for part in PARTS}}

    def _paced_by(self) -> dict[str, tuple[str, ...]]:
        """Return by architecture whose first runs say how many steps are equal ones: the slowest of them does."""
        if not self.contest.budget_s:
            return {}
        both = dict.fromkeys(self.contenders, tuple(self.contenders)) if self.contest.with_paper else {}
        return {**both, **dict.fromkeys(self.variants, ("crrg",))}

    def _equal_steps(self) -> bool:
        """Train both for as many steps as the slower one did in its first run, and variants for as many as ours."""
        for name, others in self._paced_by().items():
            steps = {
                part: min(self.table.rows[f"{self.prefix}/run/{other}/0/{part}"]["num_steps"] for other in others)
                for part in PARTS
            }
            limits = {part: Limit(num_steps=steps[part]) for part in PARTS}
            rates = self.tune(name)
            assert rates is not None
            if not self._train_run(name, f"steps/{name}", rates, 0, limits):
                return False
        return True

    def _limits(self) -> dict[str, Limit]:
        """Return where each stage of a run ends."""
        if not self.contest.budget_s:
            return {part: Limit(num_steps=getattr(self.contest.settings, part).loop.num_steps) for part in PARTS}
        return {part: Limit(cpu_s=self.contest.budget_s * SHARES[part]) for part in PARTS}

    def _train_run(self, name: str, run: str, rates: dict[str, float], seed: int, limits: dict[str, Limit]) -> bool:
        """Train the stages of a run; return whether all are trained."""
        before: dict[str, Any] = {}
        for part in PARTS:
            owner = self._trained_as(name, part)
            key = f"{self.prefix}/{run if owner == name else f'run/{owner}/{seed}'}/{part}"
            if not self._fill(key, owner, part, before, Order(rates[part], seed, limits[part])):
                return False
            before = self.table.rows[key]["parts"]
        return True

    def _fill(self, key: str, name: str, part: str, before: dict[str, Any], order: Order) -> bool:
        """Train one stage, unless it is in the table; return whether it is now."""
        if key in self.table.rows:
            return True
        if self.is_over():
            return False
        self.table.fill(key, lambda: self._train(key, name, part, before, order))
        return True

    def _train(self, key: str, name: str, part: str, before: dict[str, Any], order: Order) -> dict[str, Any]:
        contender = self.contender(name)
        parts, effort = contender.train(part, self.load(before), self.films, order)
        record = dict(before)
        for changed in contender.changes(part):
            record[changed] = self._keep(key, changed, parts)
        row = {"parts": record, "rate": order.rate, **asdict(effort)}
        if order.is_trial:
            row["score"] = self.validate(contender, part, parts)
        return row

    def _keep(self, key: str, part: str, parts: Parts) -> dict[str, Any]:
        """Write a part's weights beside the table; thresholds lie with the last part that settled them."""
        module = getattr(parts, part)
        config: dict[str, Any] = {"architecture": module.architecture.model_dump(mode="json")}
        config["tokenizer_sha256"] = self.films.tokenizer.sha256
        if parts.thresholds is not None and part != "detector":
            config["limits"] = {**asdict(parts.thresholds), "findings": parts.thresholds.findings.tolist()}
        result = StageFolder(self.work, part, config_hash(key=key, part=part)).finish(module, config, {})
        return result.model_dump(mode="json")

    def validate(self, contender: Contender, part: str, parts: Parts) -> float:
        """Return what trials of a stage are compared by, on validation films; the same for both.

        Mean region IoU; mean AUC of selection and abnormality; mean of ROUGE-L and clinical micro-F1 of the drafts.
        """
        if part == "detector":
            assert parts.detector is not None
            films = self.films.of(Split.VALIDATION, parts.detector.architecture.input_size)
            return detection_metrics(parts.detector, films, CPU)["detection/mean_iou"]
        read = contender.read(parts, self.films, Split.VALIDATION)
        if part == "selector":
            targets = region_targets(read.films)
            judged = (read.readings.selection_probabilities, read.readings.abnormal_probabilities)
            pairs = zip(judged, (targets.selection, targets.abnormal), strict=True)
            return float(np.mean([roc_auc(found.ravel().astype(float), known.ravel()) for found, known in pairs]))
        assert parts.generator is not None
        settings = drafting(contender, self.contest.settings)
        drafts = draft_films(parts.generator, self.films.tokenizer, read, settings)
        given, wanted = ([tokenize(text, "rgrg") for text in texts] for texts in (drafts, read.films.reports))
        overlap = float(rouge_l_per_report(given, wanted).mean())
        return (overlap + clinical_micro_f1(parts.generator, self.films.tokenizer, read, settings)) / 2

    def _trial_key(self, name: str, part: str, rate: float) -> str:
        return f"{self.prefix}/trial/{name}/{part}/{rate}"


def _read_thresholds(limits: dict[str, Any]) -> RegionThresholds:
    return RegionThresholds(**{**limits, "findings": np.array(limits["findings"], dtype=np.float32)})
