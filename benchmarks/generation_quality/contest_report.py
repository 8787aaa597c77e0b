"""Tables of the comparison of both architectures; a comparison that is not finished says how far it is."""

from __future__ import annotations

from typing import Any

from benchmarks.generation_quality.matching import PARTS

Rows = dict[str, Any]
CONTENDERS = ("crrg", "paper")


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def contest_tables(rows: Rows) -> list[str]:
    """Return the tables of every comparison that was begun."""
    prefixes = [name.removesuffix("/sizes") for name in rows if name.startswith("architectures/") and "/sizes" in name]
    return [_contest(prefix, rows) for prefix in prefixes]


def _contest(prefix: str, rows: Rows) -> str:
    sizes = rows[f"{prefix}/sizes"]
    own = {name.removeprefix(f"{prefix}/"): row for name, row in rows.items() if name.startswith(f"{prefix}/")}
    parts = [
        f"## `crrg` and `paper`, narrowed, within {sizes['budget_s']:g} CPU seconds each ({prefix})",
        _sizes(sizes["sizes"]),
        _trials(own),
        _efforts(own),
    ]
    summaries = {name.split("/")[0]: row for name, row in own.items() if name.split("/")[-1].startswith("summary")}
    for cohort, row in summaries.items():
        parts += _summary(cohort, row)
    if not summaries:
        parts.append("Not finished: the drafts are not scored yet; call again to go on.")
    return "\n\n".join(part for part in parts if part)


def _sizes(sizes: dict[str, dict[str, int]]) -> str:
    lines = [
        (part, *(str(each[name]) for name in CONTENDERS), f"{each['paper'] / each['crrg']:.3f}")
        for part, each in sizes.items()
    ]
    return table(("parameters", *CONTENDERS, "ratio"), lines)


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
        if name.startswith(("run/", "steps/", "without/")) and name.split("/")[-1] in PARTS:
            run, stage = name.rsplit("/", 1)
            planned = f"{row['num_steps']} of {row['num_planned']}"
            lines.append((run, stage, f"{row['rate']:g}", planned, f"{row['cpu_s']:.0f}"))
    return table(("training", "stage", "rate", "steps", "CPU s"), lines) if lines else ""


def _summary(cohort: str, row: dict[str, Any]) -> list[str]:
    tables = [f"### Drafts of {row['num_films']} films ({cohort}), 95 % intervals over patients"]
    titles = {"budget": "At equal CPU time, mean over seeds:", "steps": "At equal steps, one run each:"}
    for kind, title in titles.items():
        lines = []
        for figure, found in row[kind].items():
            best = max(each[figure][""]["mean"] for each in row["baselines"].values())
            means = [_interval(found[name]) for name in CONTENDERS]
            seeds = [" ".join(f"{value:.3f}" for value in found[name]["seeds"]) for name in CONTENDERS]
            lines.append((figure, *means, _interval(found["difference"]), *seeds, f"{best:.3f}"))
        columns = ("figure", *CONTENDERS, "difference", *(f"{name}, each seed" for name in CONTENDERS), "best baseline")
        tables.append(f"{title}\n\n{table(columns, lines)}")
    for name, figures in row["without"].items():
        lines = [
            (figure, _interval(found["crrg"]), _interval(found[name]), _interval(found["difference"]))
            for figure, found in figures.items()
        ]
        tables.append(f"Without one thing, one run each:\n\n{table(('figure', 'crrg', name, 'difference'), lines)}")
    texts = list(row["baselines"])
    lines = [
        (figure, *(f"{row['baselines'][text][figure]['']['mean']:.3f}" for text in texts)) for figure in row["budget"]
    ]
    title = "Baselines: mean boxes, usual regions, every region abnormal, and one of three texts:"
    tables.append(f"{title}\n\n{table(('figure', *texts), lines)}")
    never = [
        f"{name}: {', '.join('; '.join(each) or 'none' for each in runs)}" for name, runs in row["never_right"].items()
    ]
    tables.append("Conditions with 20 positives or more and F1 = 0, run by run. " + ". ".join(never) + ".")
    return tables


def _interval(found: dict[str, float]) -> str:
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
