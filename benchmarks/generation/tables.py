"""Tables of what was measured: medians over the repeats, ratios, agreement, distance to the floor."""

from __future__ import annotations

from statistics import median
from typing import Any

DETECTION_GFLOP = 133.0
WRITTEN_DETECTION_GFLOP = 284.0
TOKEN_GFLOP = 0.707
NUM_BEAMS = 4
NEAR_TIE = 1e-4
STAGES = ("detection", "decoding", "deduplication")
Rows = dict[str, Any]


def markdown(rows: Rows) -> str:
    """Return the tables; what has not been measured yet is left out."""
    parts = [_exactness(rows), _times(rows), _few(rows), _agreement(rows), _floor(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _kinds(rows: Rows) -> dict[tuple[str, int, str], list[Rows]]:
    """Return the repeats of every kind of pass."""
    kinds: dict[tuple[str, int, str], list[Rows]] = {}
    for name, row in rows.items():
        if "/films" in name:
            side, batch, lengths, _, _ = name.split("/")
            kinds.setdefault((side, int(batch.removeprefix("batch")), lengths), []).append(row)
    return kinds


def _per_film(row: Rows, clock: str, stage: str | None = None) -> float:
    seconds = row[clock][stage] if stage else sum(row[clock].values())
    return float(seconds) / int(row["num_films"])


def _times(rows: Rows) -> str:
    kinds = _kinds(rows)
    lines = [
        "| lengths | side | batch | detection | decoding | de-duplication | whole, CPU (min–max) | whole, wall | "
        "published one by one / this | working memory, GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for lengths in ("equal", "realistic"):
        alone = [_per_film(row, "cpu_s") for row in kinds.get(("published", 1, lengths), [])]
        for (side, batch, own), repeats in sorted(kinds.items(), key=lambda item: (item[0][0] != "published", item[0])):
            if own != lengths:
                continue
            stages = [median(_per_film(row, "cpu_s", stage) for row in repeats) for stage in STAGES]
            whole = [_per_film(row, "cpu_s") for row in repeats]
            wall = median(_per_film(row, "wall_s") for row in repeats)
            ratio = f"{median(alone) / median(whole):.2f}" if alone else ""
            memory = median(row["working_gib"] for row in repeats)
            cells = [lengths, side, str(batch), *(f"{value:.3f}" for value in stages)]
            cells += [f"{median(whole):.2f} ({min(whole):.2f}–{max(whole):.2f})", f"{wall:.2f}", ratio, f"{memory:.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _few(rows: Rows) -> str:
    lines = ["| detection, 150 proposals | published | ours | ratio |", "| --- | --- | --- | --- |"]
    for batch in (1, 4):
        found = {
            side: [
                _per_film(row, "cpu_s")
                for name, row in rows.items()
                if name.startswith(f"{side}/batch{batch}/few-proposals")
            ]
            for side in ("published", "ours")
        }
        if all(found.values()):
            old, new = median(found["published"]), median(found["ours"])
            lines.append(f"| batch {batch} | {old:.2f} | {new:.2f} | {old / new:.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _agreement(rows: Rows) -> str:
    """Compare the sentences of every pass with the published ones of the same film and lengths."""
    wanted: dict[tuple[str, int], tuple[Any, Any]] = {}
    for name, row in rows.items():
        if name.startswith("published/") and "/films" in name:
            _, _, lengths, films, _ = name.split("/")
            first = int(films.removeprefix("films").split("+")[0])
            for offset, (report, kept) in enumerate(zip(row["reports"], row["kept"], strict=True)):
                wanted.setdefault((lengths, first + offset), (report, kept))
    lines = [
        "| pass | sentences | identical | of the others: near ties of the published search | reports with the same "
        "sentences left |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        if "/films" not in name or name.startswith("published/batch1/equal"):
            continue
        side, batch, lengths, films, repeat = name.split("/")
        if repeat != "0":
            continue
        first = int(films.removeprefix("films").split("+")[0])
        count = same = ties = reports = same_reports = 0
        for offset, (report, kept) in enumerate(zip(row["reports"], row["kept"], strict=True)):
            if (lengths, first + offset) not in wanted:
                continue
            other, other_kept = wanted[lengths, first + offset]
            reports += 1
            same_reports += kept == other_kept
            for mine, theirs in zip(report, other, strict=True):
                count += 1
                same += mine[0] == theirs[0]
                ties += mine[0] != theirs[0] and abs(theirs[2]) < NEAR_TIE
        lines.append(f"| {side} {batch} {lengths} | {count} | {same} | {ties} | {same_reports} of {reports} |")
    return "\n".join(lines)


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


def _floor(rows: Rows) -> str:
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
    for (side, batch, lengths), repeats in sorted(_kinds(rows).items()):
        if side == "fast":
            continue
        work = WRITTEN_DETECTION_GFLOP if side == "published" else DETECTION_GFLOP
        row = repeats[0]
        tokens = 0.0
        for report in row["reports"]:
            for sentence in report:
                # the first step is one row for all beams, the last one scores the end
                tokens += 1 + NUM_BEAMS * len(sentence[0].split())
        work += TOKEN_GFLOP * tokens / row["num_films"]
        seconds = median(_per_film(item, "cpu_s") for item in repeats)
        shares = f"{work / best:.2f} | {seconds:.2f} | {seconds * best / work:.2f}"
        lines.append(f"| {side} {batch} {lengths} | {work:.0f} | {shares} |")
    return "\n".join(lines)
