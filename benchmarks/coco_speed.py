"""BLEU, ROUGE-L and CIDEr of drawn reports beside pycocoevalcap: the same digits, and how much sooner.

pycocoevalcap is no part of this project: ``python -m venv /tmp/coco && /tmp/coco/bin/pip install --no-deps
pycocoevalcap`` has it in ``/tmp/coco/lib/python3.*/site-packages``, which is the folder to name. Drafts are other
studies' reports. Both sides get the same texts, cut into tokens by one protocol after the other, and take turns in this
process; CPU seconds, median of the repeats. Ends with status 1 where a figure differs by more than 1e-9 or ours is less
than 5 times as fast.
Run: ``python -m benchmarks.coco_speed FOLDER [--reports 2000] [--repeats 5] [--seed 11]``
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.data.phantom.cohort import drawn_study
from crrg.evaluation.protocols import Protocol, tokenize
from crrg.evaluation.text import bleu, bleu_from_counts, caption_counts, cider_d_per_report, rouge_l_per_report

PACKAGE = "pycocoevalcap"
PROTOCOLS: tuple[Protocol, ...] = ("rgrg", "r2gen")
"""Whose published figures are pycocoevalcap's."""
TOGETHER = "all three"
TOLERANCE, LEAST_RATIO = 1e-9, 5.0
Scores = NDArray[np.float64]
"""All that a metric says: the corpus' figures, then those of each report where it has some."""
Metric = Callable[[Sequence[str], Sequence[str]], Scores]


def ours() -> dict[str, Metric]:
    """Return our metrics by name, of texts whose tokens stand between blanks."""

    def per_report(score: Callable[..., Scores]) -> Metric:
        def of_texts(drafts: Sequence[str], references: Sequence[str]) -> Scores:
            values = score(_split(drafts), _split(references))
            return np.append(values.mean(), values)

        return of_texts

    def all_three(drafts: Sequence[str], references: Sequence[str]) -> Scores:
        found, wanted = _split(drafts), _split(references)
        counts, cider = caption_counts(found, wanted)
        rouge = rouge_l_per_report(found, wanted)
        return np.concatenate([bleu_from_counts(counts.sum(axis=0)), [rouge.mean()], rouge, [cider.mean()], cider])

    return {
        "BLEU-1 to 4": lambda drafts, references: np.array(bleu(_split(drafts), _split(references))),
        "ROUGE-L": per_report(rouge_l_per_report),
        "CIDEr": per_report(cider_d_per_report),
        TOGETHER: all_three,
    }


def theirs(folder: Path) -> dict[str, Metric]:
    """Return pycocoevalcap's metrics by the same names.

    Raises:
        ImportError: The folder does not hold it.
    """
    sys.path.insert(0, str(folder))

    def metric(module: str, name: str, with_each: bool, *sizes: int, **quiet: int) -> Metric:
        scorer: Any = getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)

        def of_texts(drafts: Sequence[str], references: Sequence[str]) -> Scores:
            given = {number: [text] for number, text in enumerate(drafts)}
            wanted = {number: [text] for number, text in enumerate(references)}
            whole, each = scorer(*sizes).compute_score(wanted, given, **quiet)
            return np.append(whole, each if with_each else [])

        return of_texts

    metrics = {
        "BLEU-1 to 4": metric("bleu.bleu", "Bleu", False, 4, verbose=0),
        "ROUGE-L": metric("rouge.rouge", "Rouge", True),
        "CIDEr": metric("cider.cider", "Cider", True),
    }
    singles = list(metrics.values())
    return {**metrics, TOGETHER: lambda *texts: np.concatenate([single(*texts) for single in singles])}


def drawn_texts(num_reports: int, seed: int) -> tuple[list[str], list[str]]:
    """Return drafts and references: findings and impressions of drawn studies, each draft another study's."""
    reports = [drawn_study(seed, index).report for index in range(num_reports)]
    texts = [f"{report.findings} {report.impression}" for report in reports]
    return [*texts[1:], texts[0]], texts


def measure(
    sides: Mapping[str, Mapping[str, Metric]], drafts: Sequence[str], references: Sequence[str], repeats: int
) -> tuple[dict[str, float], dict[str, dict[str, list[float]]]]:
    """Return by metric the largest difference between the sides, and by side and metric its CPU seconds."""
    seconds: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    differences: dict[str, float] = {}
    for _ in range(repeats):
        for name in next(iter(sides.values())):
            found = []
            for side, metrics in sides.items():
                begin = time.process_time()
                found.append(metrics[name](drafts, references))
                seconds[side].setdefault(name, []).append(time.process_time() - begin)
            differences[name] = max(float(np.abs(found[0] - found[1]).max()), differences.get(name, 0.0))
    return differences, seconds


def table(differences: Mapping[str, float], seconds: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[str, float]:
    """Return a Markdown table, and how many times as fast ours is at all three, whose runs of words it counts once."""
    (first, our), (second, their) = seconds.items()
    lines = [f"| metric | {first}, CPU s | {second}, CPU s | ratio | largest difference |", "| --- |" + " ---: |" * 4]
    ratios = {name: median(their[name]) / max(median(our[name]), 1e-9) for name in our}
    lines += [
        f"| {name} | {_shown(our[name])} | {_shown(their[name])} | {ratio:.1f} | {differences[name]:.1e} |"
        for name, ratio in ratios.items()
    ]
    return "\n".join(lines), ratios[TOGETHER]


def _split(texts: Sequence[str]) -> list[list[str]]:
    return [text.split() for text in texts]


def _shown(values: Sequence[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> int:
    """Compare and time both sides; 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help=f"that holds {PACKAGE}")
    parser.add_argument("--reports", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=11, help="of the drawn reports")
    options = parser.parse_args()
    if not (options.folder / PACKAGE).is_dir():
        parser.error(f"there is no {PACKAGE} in that folder; how to get it stands above (--help)")
    sides = {"ours": ours(), PACKAGE: theirs(options.folder)}
    texts = drawn_texts(options.reports, options.seed)
    kept = True
    for protocol in PROTOCOLS:
        drafts, references = ([" ".join(tokenize(text, protocol)) for text in side] for side in texts)
        words = sum(map(len, _split(references))) / len(references)
        shown, ratio = table(*(result := measure(sides, drafts, references, options.repeats)))
        print(f"{protocol}: {len(drafts)} pairs of {words:.0f} tokens, {options.repeats} repeats in turns\n\n{shown}\n")
        kept = kept and ratio >= LEAST_RATIO and max(result[0].values()) <= TOLERANCE
    print(f"same to {TOLERANCE:g} and at least {LEAST_RATIO:g} times as fast: {'kept' if kept else 'MISSED'}")
    return int(not kept)


if __name__ == "__main__":
    raise SystemExit(main())
