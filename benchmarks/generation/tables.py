"""Tables of what was measured: medians over the repeats, ratios over common films, agreement, distance to the floor."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.generation.passes import Kind, Kinds, Pass, Rows, kinds_of, ratio, seconds_by_film
from benchmarks.generation.targets import few_ratio, few_seconds, target_table

NEAR_TIE = 1e-4
SHOWN_STAGES = ("detection", "decoding", "deduplication")


def markdown(rows: Rows) -> str:
    """Return the tables; what has not been measured yet is left out."""
    kinds = kinds_of(rows)
    parts = [_exactness(rows), _times(kinds), target_table(rows), _few(rows), _agreement(kinds), _floor(rows, kinds)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _times(kinds: Kinds) -> str:
    lines = [
        "| lengths | side | batch | films | detection | decoding | de-duplication | whole, CPU (min–max) | "
        "whole, wall | published one by one / this, over films that both did | working memory, GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    order = sorted(kinds, key=lambda kind: (kind.lengths, kind.side != "published", kind.side, kind.batch))
    for kind in order:
        passes = kinds[kind]
        stages = [_mean(seconds_by_film(kind, passes, stages=(stage,))) for stage in SHOWN_STAGES]
        whole = [each.seconds("cpu_s") / len(each.films) for each in passes]
        found = ratio(kinds, Kind("published", 1, kind.lengths), kind)
        beside = "" if found is None else f"{found[0]:.2f} ({found[1]})"
        memory = median(each.row["working_gib"] for each in passes)
        films = {film for each in passes for film in each.films}
        cells = [kind.lengths, kind.side, str(kind.batch), str(len(films)), *(f"{value:.3f}" for value in stages)]
        cells.append(f"{_mean(seconds_by_film(kind, passes)):.2f} ({min(whole):.2f}–{max(whole):.2f})")
        cells += [f"{_mean(seconds_by_film(kind, passes, 'wall_s')):.2f}", beside, f"{memory:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if kinds else ""


def _few(rows: Rows) -> str:
    lines = ["| detection, 150 proposals | published | ours | ratio |", "| --- | --- | --- | --- |"]
    for batch in (1, 4):
        if (found := few_ratio(rows, batch)) is not None:
            old, new = (few_seconds(rows, side, batch) for side in ("published", "ours"))
            lines.append(f"| batch {batch} | {old:.2f} | {new:.2f} | {found:.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _agreement(kinds: Kinds) -> str:
    """Compare the sentences of every kind of pass with the published ones of the same film and lengths."""
    wanted: dict[tuple[str, int], tuple[Any, Any]] = {}
    for kind, passes in kinds.items():
        if kind.side == "published":
            for film, report, kept in _reports(passes):
                wanted.setdefault((kind.lengths, film), (report, kept))
    lines = [
        "| pass | sentences | identical | of the others: near ties of the published search | reports with the same "
        "sentences left |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, passes in kinds.items():
        count = same = ties = reports = same_reports = 0
        for film, report, kept in _reports(passes):
            if (kind.lengths, film) not in wanted:
                continue
            other, other_kept = wanted[kind.lengths, film]
            reports += 1
            same_reports += kept == other_kept
            for mine, theirs in zip(report, other, strict=True):
                count += 1
                same += mine[0] == theirs[0]
                ties += mine[0] != theirs[0] and abs(theirs[2]) < NEAR_TIE
        name = f"{kind.side} {kind.batch} {kind.lengths}"
        lines.append(f"| {name} | {count} | {same} | {ties} | {same_reports} of {reports} |")
    return "\n".join(lines) if kinds else ""


def _reports(passes: list[Pass]) -> Iterator[tuple[int, Any, Any]]:
    """Yield film, sentences and sentences left, each film once."""
    seen: set[int] = set()
    for each in passes:
        for film, report, kept in zip(each.films, each.row["reports"], each.row["kept"], strict=True):
            if film not in seen:
                seen.add(film)
                yield film, report, kept


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
