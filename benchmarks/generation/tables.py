"""Tables of what was measured: medians over the repeats, ratios over common films, memory, agreement."""

from __future__ import annotations

from statistics import mean

from benchmarks.generation.floors import floor_table
from benchmarks.generation.passes import (
    STAGES,
    Kind,
    Kinds,
    Pass,
    Rows,
    by_lengths,
    kinds_of,
    memory_of,
    parting_name,
    published_reports,
    ratio,
    reports_of,
    seconds_by_film,
)
from benchmarks.generation.targets import few_ratio, few_seconds, target_table
from benchmarks.resumable import IDENTITY

NEAR_TIE = 1e-4
SHOWN_STAGES = ("detection", "decoding", "deduplication")


def markdown(rows: Rows) -> str:
    """Return the tables; what has not been measured yet is left out."""
    kinds = kinds_of(rows)
    parts = [_identity(rows), _exactness(rows), _times(kinds), _memory(rows), target_table(rows), _few(rows)]
    parts += [_agreement(rows, kinds), _partings(rows), floor_table(rows, kinds)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _identity(rows: Rows) -> str:
    found = rows.get(IDENTITY)
    return f"{found['processor']}; {found['libraries']}; code {found['code']}; one thread." if found else ""


def _times(kinds: Kinds) -> str:
    """Return CPU and wall seconds per film of each stage; the whole also by its fastest and slowest repeat."""
    lines = [
        "Seconds per film, CPU / wall, medians over the repeats.",
        "",
        "| lengths | side | batch | films | repeats | detection | decoding | de-duplication | end to end | its CPU, "
        "least and most | published one by one / this, over films that both did |",
        f"|{' --- |' * 11}",
    ]
    for kind in sorted(kinds, key=by_lengths):
        passes = kinds[kind]
        whole = [each.seconds("cpu_s") / len(each.films) for each in passes]
        found = ratio(kinds, Kind("published", 1, kind.lengths), kind)
        films = {film for each in passes for film in each.films}
        cells = [kind.lengths, kind.side, str(kind.batch), str(len(films)), str(len(passes))]
        cells += [*(_both_clocks(passes, (stage,)) for stage in SHOWN_STAGES), _both_clocks(passes, STAGES)]
        cells += [f"{min(whole):.2f}–{max(whole):.2f}", "" if found is None else f"{found[0]:.2f} ({found[1]})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if kinds else ""


def _both_clocks(passes: list[Pass], stages: tuple[str, ...]) -> str:
    return " / ".join(f"{mean(seconds_by_film(passes, clock, stages).values()):.3f}" for clock in ("cpu_s", "wall_s"))


def _memory(rows: Rows) -> str:
    """Return the largest resident size of a process that makes one pass, and what the pass adds to the weights."""
    lines = [
        "GiB of a process that has read one side's weights and makes one pass: the peak is all of it, the working part "
        "what the pass adds, in each stage at most.",
        "",
        "| lengths | side | batch | weights | peak | working part | detection | decoding | de-duplication | kept |",
        f"|{' --- |' * 10}",
    ]
    for kind, row in memory_of(rows).items():
        gib = [row["resident_gib"], row["peak_gib"], row["working_gib"]]
        gib += [*(row["stage_gib"][stage] for stage in SHOWN_STAGES), row["kept_gib"]]
        cells = [kind.lengths, kind.side, str(kind.batch), *(f"{value:.2f}" for value in gib)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 4 else ""


def _few(rows: Rows) -> str:
    lines = ["| detection, 150 proposals | published | ours | ratio |", "| --- | --- | --- | --- |"]
    for batch in (1, 4):
        if (found := few_ratio(rows, batch)) is not None:
            old, new = (few_seconds(rows, side, batch) for side in ("published", "ours"))
            lines.append(f"| batch {batch} | {old:.2f} | {new:.2f} | {found:.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _agreement(rows: Rows, kinds: Kinds) -> str:
    """Compare the sentences of every kind of pass with the published ones of the same film and lengths.

    A sentence that differs is excused where the published search's own two best hypotheses lie within 1e-4 per token.
    Where that is not so, ours may still part from the published search at a near tie of an earlier step; that explains
    a difference and excuses none, so it is counted apart.
    """
    wanted = published_reports(kinds)
    lines = [
        "| pass | sentences | identical | differ, the published two best within 1e-4: excused | differ, not excused | "
        "of these: the searches part earlier at a near tie | reports with the same sentences left |",
        f"|{' --- |' * 7}",
    ]
    for kind, passes in kinds.items():
        count = same = excused = others = explained = reports = same_reports = 0
        for film, report, kept in reports_of(passes):
            if (kind.lengths, film) not in wanted:
                continue
            other, other_kept = wanted[kind.lengths, film]
            reports += 1
            same_reports += kept == other_kept
            for number, (mine, theirs) in enumerate(zip(report, other, strict=True)):
                count += 1
                if mine[0] == theirs[0]:
                    same += 1
                elif abs(theirs[2]) < NEAR_TIE:
                    excused += 1
                else:
                    others += 1
                    explained += kind.side == "ours" and _is_near(rows, parting_name(kind.lengths, film, number))
        name = f"{kind.side} {kind.batch} {kind.lengths}"
        found = f"{count} | {same} | {excused} | {others} | {explained}"
        lines.append(f"| {name} | {found} | {same_reports} of {reports} |")
    return "\n".join(lines) if kinds else ""


def _is_near(rows: Rows, name: str) -> bool:
    parted = rows.get(name)
    return parted is not None and parted["gap"] < NEAR_TIE


def _partings(rows: Rows) -> str:
    """Say of each sentence of ours that differs where the searches part, and how close it was there."""
    lines = [
        "| sentence that differs | searches part at word | difference of what changed places, per token | "
        "of the two sides' scores of the same |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        if name.startswith("parting/"):
            _, lengths, film, number = name.split("/")
            which = f"{lengths}, film {film.removeprefix('film')}, sentence {number}"
            step = "never" if row["step"] < 0 else row["step"] + 1
            lines.append(f"| {which} | {step} | {row['gap']:.1e} | {row['noise']:.1e} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _exactness(rows: Rows) -> str:
    found = rows.get("exactness")
    if not found:
        return ""
    lines = [
        f"Proposals of four films: {found['proposals']}; detected {found['detected']}, selected {found['selected']}. "
        f"Import of the full file: {found['import_s']:.1f} s; of the detector's file "
        f"{found['stage_1_file']['import_s']:.1f} s, the same weights: {found['stage_1_file']['same_weights']}. "
        f"Word logits differ by at most {found['word_logits']:.1e}.",
        "",
        "| detector | same regions | same selection | boxes, px | selection logits | abnormality logits |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in ("map", "exact_roi"):
        row = found[name]
        lines.append(
            f"| {name} | {row['same_regions']} | {row['same_selection']} | {row['boxes_px']:.1e} | "
            f"{row['selection_logits']:.1e} | {row['abnormal_logits']:.1e} |"
        )
    return "\n".join(lines)
