"""Tables of what was measured: medians over the repeats, ratios over common films, agreement, distance to the floor."""

from __future__ import annotations

import math

from benchmarks.generation.passes import (
    Kind,
    Kinds,
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

NEAR_TIE = 1e-4
SHOWN_STAGES = ("detection", "decoding", "deduplication")


def markdown(rows: Rows) -> str:
    """Return the tables; what has not been measured yet is left out."""
    kinds = kinds_of(rows)
    parts = [_exactness(rows), _times(kinds), _memory(rows), target_table(rows), _few(rows)]
    parts += [_agreement(rows, kinds), _partings(rows), _floor(rows, kinds)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _times(kinds: Kinds) -> str:
    lines = [
        "| lengths | side | batch | films | detection | decoding | de-duplication | whole, CPU (min–max) | "
        "whole, wall | published one by one / this, over films that both did |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in sorted(kinds, key=by_lengths):
        passes = kinds[kind]
        stages = [_mean(seconds_by_film(kind, passes, stages=(stage,))) for stage in SHOWN_STAGES]
        whole = [each.seconds("cpu_s") / len(each.films) for each in passes]
        found = ratio(kinds, Kind("published", 1, kind.lengths), kind)
        beside = "" if found is None else f"{found[0]:.2f} ({found[1]})"
        films = {film for each in passes for film in each.films}
        cells = [kind.lengths, kind.side, str(kind.batch), str(len(films)), *(f"{value:.3f}" for value in stages)]
        cells.append(f"{_mean(seconds_by_film(kind, passes)):.2f} ({min(whole):.2f}–{max(whole):.2f})")
        cells += [f"{_mean(seconds_by_film(kind, passes, 'wall_s')):.2f}", beside]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if kinds else ""


def _memory(rows: Rows) -> str:
    """Return what a pass adds to the resident size of a process that has read the weights, in each stage at most."""
    lines = [
        "| lengths | side | batch | films | weights, GiB | detection | decoding | de-duplication | at most | kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, row in memory_of(rows).items():
        gib = [row["resident_gib"], *(row["stage_gib"][stage] for stage in SHOWN_STAGES)]
        gib += [row["working_gib"], row["kept_gib"]]
        cells = [kind.lengths, kind.side, str(kind.batch), str(row["num_films"]), *(f"{value:.2f}" for value in gib)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _few(rows: Rows) -> str:
    lines = ["| detection, 150 proposals | published | ours | ratio |", "| --- | --- | --- | --- |"]
    for batch in (1, 4):
        if (found := few_ratio(rows, batch)) is not None:
            old, new = (few_seconds(rows, side, batch) for side in ("published", "ours"))
            lines.append(f"| batch {batch} | {old:.2f} | {new:.2f} | {found:.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _agreement(rows: Rows, kinds: Kinds) -> str:
    """Compare the sentences of every kind of pass with the published ones of the same film and lengths."""
    wanted = published_reports(kinds)
    lines = [
        "| pass | sentences | identical | of the others: near ties of the published search | reports with the same "
        "sentences left |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, passes in kinds.items():
        count = same = ties = reports = same_reports = 0
        for film, report, kept in reports_of(passes):
            if (kind.lengths, film) not in wanted:
                continue
            other, other_kept = wanted[kind.lengths, film]
            reports += 1
            same_reports += kept == other_kept
            for number, (mine, theirs) in enumerate(zip(report, other, strict=True)):
                parted = rows.get(parting_name(kind.lengths, film, number)) if kind.side == "ours" else None
                count += 1
                same += mine[0] == theirs[0]
                gap = min(abs(theirs[2]), parted["gap"] if parted else math.inf)
                ties += mine[0] != theirs[0] and gap < NEAR_TIE
        name = f"{kind.side} {kind.batch} {kind.lengths}"
        lines.append(f"| {name} | {count} | {same} | {ties} | {same_reports} of {reports} |")
    return "\n".join(lines) if kinds else ""


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


def _floor(rows: Rows, kinds: Kinds) -> str:
    if "floor" not in rows:
        return ""
    rates = rows["floor"]
    best = max(rates["gemm_640"], rates["gemm_2048"])
    lines = [
        f"One thread reaches {rates['gemm_640']:.0f} (640 rows) and {rates['gemm_2048']:.0f} GFLOP/s (2048²) in "
        f"float32 products, copies {rates['copy_gb_s']:.1f} GB/s and reads {rates['read_gb_s']:.1f} GB/s.",
        "",
        "| pass | products, GFLOP per film | floor, s | measured, s | times the floor |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, passes in sorted(kinds.items(), key=lambda item: (item[0].side, item[0].batch, item[0].lengths)):
        if kind.side == "fast":
            continue
        seconds = seconds_by_film(kind, passes)
        products = {
            film: work for each in passes for film, work in zip(each.films, each.work_gflop(kind.side), strict=True)
        }
        work, measured = _mean(products), _mean(seconds)
        shares = f"{work / best:.2f} | {measured:.2f} | {measured * best / work:.2f}"
        lines.append(f"| {kind.side} {kind.batch} {kind.lengths} | {work:.0f} | {shares} |")
    return "\n".join(lines)


def _mean(by_film: dict[int, float]) -> float:
    return sum(by_film.values()) / len(by_film)
