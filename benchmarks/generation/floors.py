"""The least that a pass could take on one thread of this machine, beside what it took.

A stage takes at least as long as its products at the best rate of a product, and at least as long as its weights are
read; the larger of the two is its floor. Detection reads its weights once per call, decoding all of the language
model's at every step, of which there are as many as the longest sentence of a call has words, and one for the end.
The floor of a pass is the sum of both stages; selection and de-duplication are not in it, nor in what was measured.

Source: the design's performance.md, section 2 (products and weights at the published size).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.generation.passes import Kind, Kinds, Pass, Rows, seconds_by_film

MAP_GFLOP = 41.9 + 20.2
"""Backbone and proposal network, per film."""
LAYER_GFLOP = 68.7
"""The box head's first layer through the map, per film, whatever the proposals."""
BOX_GFLOP, CUT_BOX_GFLOP = 0.0033, 0.2706
"""What each proposal adds: through the map, and cut out of it as the published code does."""
DETECTOR_GB = 0.80
TOKEN_GFLOP = 0.707
STEP_GB = {"published": 1.41, "ours": 1.41, "fast": 1.41 / 4}
"""Weights of the language model that a step reads: float32, and 8 bits."""
STAGES = ("detection", "decoding")


@dataclass(frozen=True)
class Floor:
    """What a film costs at least, on average over the films of a kind of pass.

    Attributes:
        gflop: Products.
        read_gb: Weights that are read.
        compute_s: Products of both stages at the best rate.
        read_s: Their weights at the best rate.
        floor_s: The larger of the two in each stage, summed.
    """

    gflop: float
    read_gb: float
    compute_s: float
    read_s: float
    floor_s: float


def detection_gflop(side: str, proposals: float) -> float:
    """Return the products of detection per film; ours takes the way that has fewer for so many proposals."""
    as_written = MAP_GFLOP + CUT_BOX_GFLOP * proposals
    return as_written if side == "published" else min(as_written, MAP_GFLOP + LAYER_GFLOP + BOX_GFLOP * proposals)


def floor_of(kind: Kind, each: Pass, rates: dict[str, float], proposals: float) -> Floor:
    """Return the floor of a pass per film.

    Args:
        kind: Its side and batch.
        each: The pass.
        rates: What the machine reaches (``exactness.floor``).
        proposals: That survive per film, as measured.
    """
    best = max(rates["gemm_640"], rates["gemm_2048"])
    best_of_words = max(rates["int8_640"], rates["int8_2048"]) if kind.side == "fast" else best
    count = len(each.films)
    calls = [each.row["reports"][first : first + kind.batch] for first in range(0, count, kind.batch)]
    detection = detection_gflop(kind.side, proposals) / best, DETECTOR_GB * len(calls) / count / rates["read_gb_s"]
    steps = sum(_num_steps(call) for call in calls)
    words_gflop, words_gb = TOKEN_GFLOP * sum(each.rows()) / count, STEP_GB[kind.side] * steps / count
    words = words_gflop / best_of_words, words_gb / rates["read_gb_s"]
    return Floor(
        gflop=detection_gflop(kind.side, proposals) + words_gflop,
        read_gb=DETECTOR_GB * len(calls) / count + words_gb,
        compute_s=detection[0] + words[0],
        read_s=detection[1] + words[1],
        floor_s=max(detection) + max(words),
    )


def _num_steps(reports: list[list[list[Any]]]) -> int:
    lengths = [len(sentence[0].split()) for report in reports for sentence in report]
    return 1 + max(lengths) if lengths else 0


def floor_table(rows: Rows, kinds: Kinds) -> str:
    """Return rates and floors; nothing where the rates or the proposals were not measured."""
    if not kinds or "floor" not in rows or "exactness" not in rows:
        return ""
    rates, proposals = rows["floor"], mean(rows["exactness"]["proposals"])
    lines = [
        f"One thread reaches {rates['gemm_640']:.0f} (640 rows) and {rates['gemm_2048']:.0f} GFLOP/s (2048²) in "
        f"float32 products, {rates['int8_640']:.0f} and {rates['int8_2048']:.0f} in 8 bits, copies "
        f"{rates['copy_gb_s']:.1f} GB/s and reads {rates['read_gb_s']:.1f} GB/s. {proposals:.0f} proposals per film. "
        "Floor: in detection and in decoding the larger of products and reading the weights; measured: these two.",
        "",
        "| pass | products, GFLOP per film | weights read, GB per film | products, s | reading, s | floor, s | "
        "measured, CPU s | times the floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, passes in sorted(kinds.items(), key=lambda item: (item[0].side, item[0].batch, item[0].lengths)):
        least = floor_of(kind, passes[0], rates, proposals)
        measured = mean(seconds_by_film(passes, stages=STAGES).values())
        parts = [f"{least.gflop:.0f}", *(f"{value:.2f}" for value in (least.read_gb, least.compute_s, least.read_s))]
        parts += [f"{least.floor_s:.2f}", f"{measured:.2f}", f"{measured / least.floor_s:.2f}"]
        lines.append(f"| {kind.side} {kind.batch} {kind.lengths} | {' | '.join(parts)} |")
    return "\n".join(lines)
