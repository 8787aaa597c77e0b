"""Tables of the comparison of architectures; a comparison that is not finished says how far it is."""

from __future__ import annotations

from statistics import mean
from typing import Any

from benchmarks.generation_quality.contest_scores import REGION_IOU
from benchmarks.generation_quality.matching import PARTS
from benchmarks.generation_quality.provenance import training_within_budget

Rows = dict[str, Any]
CONTENDERS = ("crrg", "paper")


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def contest_tables(rows: Rows) -> list[str]:
    """Return the tables of every comparison that was begun here, by the present code."""
    prefixes = [
        name.removesuffix("/sizes")
        for name, row in rows.items()
        if name.startswith("architectures/")
        and name.endswith("/sizes")
        and row.get("made_by") == training_within_budget()
    ]
    return [_contest(prefix, rows) for prefix in prefixes]


def _contest(prefix: str, rows: Rows) -> str:
    sizes = rows[f"{prefix}/sizes"]
    own = {name.removeprefix(f"{prefix}/"): row for name, row in rows.items() if name.startswith(f"{prefix}/")}
    variants = {name.split("/")[1]: row for name, row in own.items() if name.startswith("variant/")}
    parts = [
        f"## {_title(sizes['budget_s'])} ({prefix})",
        f"`crrg` of preset: {sizes['preset']}. All trained and scored on: {sizes['device']}.",
        _sizes(sizes["sizes"]),
        *(_sizes(row["sizes"], ("crrg", name)) for name, row in variants.items()),
        _trials(own),
        _efforts(own),
    ]
    summaries = _summaries(own)
    for cohort, row in summaries.items():
        parts += _summary(cohort, row, sizes["budget_s"])
    if not summaries:
        parts.append("Not finished: the drafts are not scored yet; call again to go on.")
    return "\n\n".join(part for part in parts if part)


def _title(budget_s: float) -> str:
    if not budget_s:
        return "`crrg` and variants of it, each trained as the preset says"
    return f"`crrg` and `paper`, narrowed, within {budget_s:g} CPU seconds each"


def _summaries(own: Rows) -> Rows:
    """Return the summary of each cohort; several that compare different things are put together."""
    found: Rows = {}
    for name, row in own.items():
        parts = name.split("/")
        if parts[-1].startswith("summary"):
            known = found.setdefault(parts[0], {})
            for part, each in row.items():
                known[part] = {**known.get(part, {}), **each} if isinstance(each, dict) else each
    return found


def _sizes(sizes: dict[str, dict[str, int]], names: tuple[str, str] = CONTENDERS) -> str:
    ours, other = names
    lines = [
        (part, str(each[ours]), str(each[other]), f"{each[other] / each[ours]:.3f}") for part, each in sizes.items()
    ]
    return table(("parameters", *names, "ratio"), lines)


def _trials(own: Rows) -> str:
    lines = [
        (*name.split("/")[1:], f"{row['score']:.4f}", str(row["num_steps"]), f"{row['cpu_s']:.0f}")
        for name, row in own.items()
        if name.startswith("trial/")
    ]
    return table(("trial", "stage", "rate", "score on validation", "steps", "CPU s"), lines) if lines else ""


def _efforts(own: Rows) -> str:
    lines = []
    for name, row in own.items():
        if name.startswith(("run/", "steps/")) and name.split("/")[-1] in PARTS:
            run, stage = name.rsplit("/", 1)
            planned = f"{row['num_steps']} of {row['num_planned']}"
            lines.append((run, stage, f"{row['rate']:g}", planned, f"{row['cpu_s']:.0f}"))
    return table(("training", "stage", "rate", "steps", "CPU s"), lines) if lines else ""


def _summary(cohort: str, row: dict[str, Any], budget_s: float) -> list[str]:
    tables = [f"### Drafts of {row['num_films']} films ({cohort}), 95 % intervals over patients"]
    runs = "At equal CPU time" if budget_s else "At the preset's steps and learning rates"
    titles = {"budget": f"{runs}, mean over seeds:", "steps": "At equal steps, one run each:"}
    for kind, title in titles.items():
        if row[kind]:
            tables.append(f"{title}\n\n{_pair(row[kind], CONTENDERS, row['baselines'])}")
    for name, found in row.get("variants", {}).items():
        for kind, title in ((kind, title) for kind, title in titles.items() if found[kind]):
            pair = _pair(found[kind], (name, "crrg"), row["baselines"])
            tables.append(f"`{name}` beside `crrg`, the difference is what it gains. {title}\n\n{pair}")
    texts = list(row["baselines"])
    lines = [
        (_shown(figure), *(f"{row['baselines'][text][figure]['']['mean']:.3f}" for text in texts))
        for figure in row["baselines"][texts[0]]
    ]
    title = "Baselines: mean boxes, usual regions, every region abnormal, and one of three texts:"
    tables.append(f"{title}\n\n{table(('figure', *texts), lines)}")
    tables += _further(row["further"])
    never = [
        f"{name}: {', '.join('; '.join(each) or 'none' for each in runs)}" for name, runs in row["never_right"].items()
    ]
    tables.append("Conditions with 20 positives or more and F1 = 0, run by run. " + ". ".join(never) + ".")
    return tables


def _further(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """Return the tables of figures without interval: texts by protocol and sentences, then boxes by region."""
    by_region, others = {}, {}
    for name, figures in found.items():
        by_region[name] = {key: each for key, each in figures.items() if key.startswith(REGION_IOU)}
        others[name] = {key: each for key, each in figures.items() if not key.startswith(REGION_IOU)}
    titles = {
        "Texts under three protocols, and how long and different sentences are, mean over runs (each):": others,
        "Boxes by region, mean over runs (each); the baseline is the mean box:": by_region,
    }
    return [f"{title}\n\n{_of_runs(each)}" for title, each in titles.items()]


def _of_runs(found: dict[str, dict[str, list[float]]]) -> str:
    names = [name for name, figures in found.items() if figures]
    figures = list(dict.fromkeys(figure for name in names for figure in found[name]))
    lines = [(figure, *(_each(found[name].get(figure, [])) for name in names)) for figure in figures]
    return table(("figure", *names), lines)


def _each(values: list[float]) -> str:
    if not values:
        return ""
    runs = f" ({' '.join(f'{value:.3f}' for value in values)})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{runs}"


def _pair(figures: dict[str, Any], names: tuple[str, str], baselines: dict[str, Any]) -> str:
    """Return the table of two architectures: each figure's means, their difference, and each seed."""
    lines = []
    for figure, found in figures.items():
        best = max(each[figure][""]["mean"] for each in baselines.values())
        means = [_interval(found[name]) for name in names]
        seeds = [" ".join(f"{value:.3f}" for value in found[name]["seeds"]) for name in names]
        lines.append((_shown(figure), *means, _interval(found["difference"]), *seeds, f"{best:.3f}"))
    columns = ("figure", *names, "difference", *(f"{name}, each seed" for name in names), "best baseline")
    return table(columns, lines)


def _shown(figure: str) -> str:
    """Return a figure's name, and where it is of other regions than a scorecard's, of which."""
    return f"{figure}, regions that were not found too" if figure.startswith("abnormality") else figure


def _interval(found: dict[str, float]) -> str:
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
