"""The gate of rounded weights: ``precision = fast`` goes into a bundle only where its drafts are as good as the exact.

Validation films are drafted twice. Of all sentences either drafting says of a region, at least 95 % must be the same,
and every text and clinical figure must be within 0.5 % of that of the exact drafts. Kinds of devices round differently:
each passes for itself, and a bundle drafts exactly on others (``crrg.inference.pipeline``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

from crrg.config.base import Device
from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import read_pairs
from crrg.domain.bundle import BundleFiles
from crrg.domain.study import DraftReport, Film, Pair, Split
from crrg.errors import ConfigError, GateNotMet
from crrg.evaluation.clinical import known_labels, score_clinical
from crrg.evaluation.protocols import Protocol
from crrg.evaluation.text import score_text
from crrg.progress import count_progress
from crrg.registry.composing import with_fast_devices
from crrg.storage import Storage

logger = logging.getLogger(__name__)

MIN_IDENTICAL = 0.95
MAX_DIFFERENCE = 0.005
"""Of the exact figure."""
MOST_FILMS = 1000
FILMS_AT_ONCE = 64
PROTOCOL: Protocol = "rgrg"
TEXT_FIGURES = tuple(f"{PROTOCOL}/{name}" for name in ("bleu_4", "rouge_l", "meteor_offline", "cider_d"))
KINDS = ("cpu", "cuda")
CLINICAL_FIGURES = ("clinical/micro_f1",)
IDENTICAL = "fast/identical_sentences"


@dataclass(frozen=True)
class FastComparison:
    """Drafts of the same films by rounded and by exact weights.

    Attributes:
        num_sentences: Sentences about a region that at least one of the two draftings has.
        figures: ``fast/identical_sentences`` in 0..1, and each text and clinical figure of the rounded weights under
            ``fast/…`` and of the exact ones under ``exact/…``.
    """

    num_sentences: int
    figures: dict[str, float]

    @property
    def failures(self) -> tuple[str, ...]:
        """Conditions that do not hold, with what was found; where there is no sentence, the first does not."""
        share, failures = self.figures[IDENTICAL], []
        if share < MIN_IDENTICAL:
            failures.append(
                f"{share:.1%} of {self.num_sentences} sentences are the same, at least {MIN_IDENTICAL:.0%} are required"
            )
        for name in (*TEXT_FIGURES, *CLINICAL_FIGURES):
            exact, fast = (self.figures.get(f"{side}/{name}", 0.0) for side in ("exact", "fast"))
            if abs(fast - exact) > MAX_DIFFERENCE * abs(exact):
                failures.append(
                    f"{name} is {fast:.4f}, exact {exact:.4f}; within {MAX_DIFFERENCE:.1%} of that is required"
                )
        return tuple(failures)


@dataclass(frozen=True)
class FastPass:
    """What rounded weights passed with.

    Attributes:
        figures: On the device that was asked, for the model card.
        kinds: Of devices that they passed on: this one, and any on which the same bundle passed before.
    """

    figures: dict[str, float]
    kinds: tuple[str, ...]


def compare_drafts(
    exact: Sequence[DraftReport], fast: Sequence[DraftReport], references: Sequence[Pair]
) -> FastComparison:
    """Compare two draftings of the same films.

    Args:
        exact: By exact weights.
        fast: By rounded weights, of the same films in the same order.
        references: What is known of the films; those without a report give no text figure.

    Returns:
        The comparison.
    """
    said = [
        (one.phrase, other.phrase)
        for ours, theirs in zip(exact, fast, strict=True)
        for one, other in zip(ours.regions, theirs.regions, strict=True)
        if one.phrase or other.phrase
    ]
    figures = {IDENTICAL: sum(one == other for one, other in said) / len(said) if said else 0.0}
    for side, drafts in (("exact", exact), ("fast", fast)):
        figures |= {f"{side}/{name}": value for name, value in _figures(drafts, references).items()}
    return FastComparison(len(said), figures)


def check_fast(bundle: BundleFiles, dataset: DatasetRef, device: Device, storage: Storage) -> FastPass:
    """Draft validation films with rounded and with exact weights, and refuse rounded ones that are not as good.

    Args:
        bundle: Composed, its decoding ``fast``.
        dataset: Whose validation films.
        device: Where to draft; rounding differs between kinds of devices.
        storage: Root with the dataset; keeps the figures, so that assembling again drafts nothing.

    Returns:
        With what they passed, and where.

    Raises:
        ConfigError: There is no validation film.
        GateNotMet: The drafts differ too much.
    """
    from crrg.device import resolve_device

    kind = resolve_device(device).type
    keys = {each: f"models/fast/{bundle.bundle_id}/{dataset.name}-{dataset.version}-{each}.json" for each in KINDS}
    if not storage.exists(keys[kind]):
        storage.put_json(keys[kind], asdict(_compare(bundle, dataset, device, storage)))
    known = {each: FastComparison(**storage.get_json(key)) for each, key in keys.items() if storage.exists(key)}
    found = known[kind]
    if found.failures:
        raise GateNotMet(
            f"{'; '.join(found.failures)}; assemble with decoding.precision = exact",
            "decoding.precision = fast",
            scorecard=found.figures,
            gate={"min_identical": MIN_IDENTICAL, "max_difference": MAX_DIFFERENCE},
        )
    logger.info("rounded weights give the same sentence in %.1f %% of cases", 100 * found.figures[IDENTICAL])
    return FastPass(found.figures, tuple(each for each, measured in known.items() if not measured.failures))


def _compare(bundle: BundleFiles, dataset: DatasetRef, device: Device, storage: Storage) -> FastComparison:
    """Draft twice; torch is imported here, so that a form can be built without it."""
    from crrg.device import resolve_device
    from crrg.inference.pipeline import ReportPipeline

    frontal = (
        (pair, pair.film)
        for pair in read_pairs(storage, dataset, Split.VALIDATION)
        if pair.film is not None and pair.film.view_position.is_frontal
    )
    known: list[tuple[Pair, Film]] = list(islice(frontal, MOST_FILMS))
    if not known:
        raise ConfigError(
            "rounded weights are compared with exact ones on validation films, and there are none; take "
            "decoding.precision = exact, or a dataset with a validation split",
            "decoding.precision",
        )
    resolved = resolve_device(device)
    # what is to be found out here is taken as found, or the pipeline would warn of rounded weights that nobody compared
    pipeline = ReportPipeline.from_bundle(with_fast_devices(bundle, (resolved.type,)), resolved)
    rounded, exact = (pipeline.decoding.model_copy(update={"precision": each}) for each in ("fast", "exact"))
    drafts: dict[str, list[DraftReport]] = {"exact": [], "fast": []}
    say = count_progress("rounded weights beside exact ones", "films")
    for first in range(0, len(known), FILMS_AT_ONCE):
        films = [film for _, film in known[first : first + FILMS_AT_ONCE]]
        drafts["exact"] += replace(pipeline, decoding=exact).draft(films)
        drafts["fast"] += replace(pipeline, decoding=rounded).draft(films)
        say(first + len(films), len(known))
    return compare_drafts(drafts["exact"], drafts["fast"], [pair for pair, _ in known])


def _figures(drafts: Sequence[DraftReport], references: Sequence[Pair]) -> dict[str, float]:
    """Return the text and clinical figures of drafts."""
    worded = [(draft, pair.report.findings) for draft, pair in zip(drafts, references, strict=True)]
    known = [(draft.findings, findings) for draft, findings in worded if findings]
    text = score_text([said for said, _ in known], [wanted for _, wanted in known], PROTOCOL) if known else {}
    reports = [f"{draft.findings} {draft.impression}" for draft in drafts]
    clinical = score_clinical(reports, [pair.labels for pair in references], known_labels(references))
    return {name: (text | clinical)[name] for name in (*TEXT_FIGURES, *CLINICAL_FIGURES) if name in (text | clinical)}
