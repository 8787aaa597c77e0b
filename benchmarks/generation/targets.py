"""What was promised of the speed of generation, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.generation.passes import STAGES, Kind, Rows, kinds_of, memory_of, ratio

DEDUPLICATION = ("deduplication",)
NO_DEDUPLICATION = tuple(stage for stage in STAGES if stage not in DEDUPLICATION)
DETECTION = ("detection",)
MOST_MEMORY = 0.6
EXACTNESS = {"ours": "exact", "fast": "fast"}


@dataclass(frozen=True)
class Promise:
    """A ratio of the published procedure's seconds to ours.

    Attributes:
        work: What of.
        least: The ratio that is asked for.
        slow: The published pass.
        fast: Ours.
        stages: Which parts count.
    """

    work: str
    least: float
    slow: Kind
    fast: Kind
    stages: tuple[str, ...] = STAGES


def promises() -> Iterator[Promise]:
    """Yield all ratios that are asked for of whole passes and their parts."""
    for lengths, least in (("equal", 2.0), ("realistic", 3.0)):
        alone = Kind("published", 1, lengths)
        for batch in (8, 32):
            ours, fast = Kind("ours", batch, lengths), Kind("fast", batch, lengths)
            end_to_end = f"end to end without de-duplication, {lengths} lengths, batch {batch}, against one by one"
            yield Promise(f"{end_to_end}, exact", least, alone, ours, NO_DEDUPLICATION)
            if lengths == "realistic":
                yield Promise(f"{end_to_end}, fast", 6.0, alone, fast, NO_DEDUPLICATION)
                yield Promise(f"film to report with de-duplication, batch {batch}, exact", 3.2, alone, ours)
        for side, wanted in (("ours", 1.4), ("fast", 3.2)):
            one = Kind(side, 1, lengths)
            yield Promise(f"one film alone, {lengths} lengths, {side}", wanted, alone, one, NO_DEDUPLICATION)
        for batch in (1, 8):
            pair = Kind("published", batch, lengths), Kind("ours", batch, lengths)
            yield Promise(f"detection, batch {batch}, pass of {lengths} lengths", 3.2, *pair, DETECTION)
            yield Promise(f"de-duplication, batch {batch}, {lengths} lengths", 15.0, *pair, DEDUPLICATION)


def target_table(rows: Rows) -> str:
    """Return the table of targets: what was measured, on how many films, and whether it suffices."""
    lines = [
        "| target | at least | measured | films | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    kinds = kinds_of(rows)
    for each in promises():
        found = ratio(kinds, each.slow, each.fast, each.stages)
        if found is not None:
            lines.append(_line(each.work, f"{each.least:.1f}x", f"{found[0]:.2f}x", found[1], found[0] >= each.least))
    lines += [
        _line(f"detection at 150 proposals, batch {batch}", "1.2x", f"{few:.2f}x", batch, few >= 1.2)
        for batch in (1, 4)
        if (few := few_ratio(rows, batch)) is not None
    ]
    lines += _memory_lines(rows)
    return "\n".join(lines) if len(lines) > 2 else ""


def few_ratio(rows: Rows, batch: int) -> float | None:
    """Return the ratio of detection where 150 proposals survive, on the same films; ``None`` if not measured."""
    seconds = {side: few_seconds(rows, side, batch) for side in ("published", "ours")}
    if any(map(math.isnan, seconds.values())):
        return None
    return seconds["published"] / seconds["ours"]


def few_seconds(rows: Rows, side: str, batch: int) -> float:
    """Return the CPU seconds per film of detection where 150 proposals survive; NaN if not measured."""
    found = [
        row["cpu_s"]["detection"] / row["num_films"]
        for name, row in rows.items()
        if name.startswith(f"{side}/batch{batch}/few-proposals")
    ]
    return median(found) if found else math.nan


def _memory_lines(rows: Rows) -> list[str]:
    """Return the peak memory of our passes beside the published ones of the same batch and lengths.

    Judged by all that the process holds. The weights are in it, the same ones on both sides where ours are exact, so
    that the line also says how much of the published peak they are, and what is left of the rest: the working part.
    """
    lines = []
    memory = memory_of(rows)
    for kind, row in memory.items():
        other = memory.get(Kind("published", kind.batch, kind.lengths))
        if kind.side == "published" or other is None:
            continue
        share, weights = (row[each] / other["peak_gib"] for each in ("peak_gib", "resident_gib"))
        working = row["working_gib"] / other["working_gib"]
        found = f"{share:.0%} (our weights alone {weights:.0%}; working part {working:.0%})"
        work = f"peak memory of the process, batch {kind.batch}, {kind.lengths} lengths, {EXACTNESS[kind.side]}"
        lines.append(_line(work, "at most 60 %", found, row["num_films"], share <= MOST_MEMORY))
    return lines


def _line(work: str, wanted: str, found: str, num_films: int, is_met: bool) -> str:
    return f"| {work} | {wanted} | {found} | {num_films} | {'met' if is_met else '**missed**'} |"
