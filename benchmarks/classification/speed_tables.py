"""Tables of what ``classification_speed`` measured: medians over the repeats, ratios, agreement."""

from __future__ import annotations

from statistics import median
from typing import Any

Rows = dict[str, Any]


def markdown(rows: Rows) -> str:
    """Return the tables; what has not been measured is left out."""
    return "\n\n".join(part for part in (_steps(rows), _inference(rows), _product(rows), _memory(rows)) if part) + "\n"


def training_ratio(rows: Rows, side: str) -> float:
    """Return how many times faster a side's step is than the published one."""
    return _median(rows, "step/published/", "cpu_s") / _median(rows, f"step/{side}/", "cpu_s")


def _values(rows: Rows, prefix: str, name: str) -> list[float]:
    return [row[name] for key, row in rows.items() if key.startswith(prefix)]


def _median(rows: Rows, prefix: str, name: str) -> float:
    return median(_values(rows, prefix, name))


def _span(rows: Rows, prefix: str, name: str, factor: float = 1.0, digits: int = 1) -> str:
    values = [factor * value for value in _values(rows, prefix, name)]
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _steps(rows: Rows) -> str:
    sides = list(dict.fromkeys(key.split("/")[1] for key in rows if key.startswith("step/")))
    if not sides:
        return ""
    texts, found = rows["texts"], rows.get("gradients")
    lines = [
        f"Training step, {texts['batch']} studies, ResNet-50 at 224 pixels and BERT-base, {texts['source']} reports of "
        f"{texts['mean_tokens']:.0f} tokens on average, at most {texts['longest']:.0f}.",
        "",
        "| step | films encoded | texts encoded | tokens, padding included | CPU s | published / this |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for side in sides:
        row = rows[f"step/{side}/0"]
        lines.append(
            f"| {side} | {row['films']} | {row['texts']} | {row['tokens']} | {_span(rows, f'step/{side}/', 'cpu_s')} | "
            f"{training_ratio(rows, side):.2f} |"
        )
    if found:
        lines += [
            "",
            f"The same maths, normalisation held: losses differ by {found['loss_difference']:.1e}, gradients "
            f"of {found['tensors']} of {found['published_tensors']} tensors by "
            f"{found['relative_gradient_difference']:.1e} of their length.",
        ]
    return "\n".join(lines)


def _inference(rows: Rows) -> str:
    kinds = list(dict.fromkeys(tuple(key.split("/")[1:3]) for key in rows if key.startswith("films/")))
    if not kinds:
        return ""
    lines = [
        "| inference | way | CPU ms, per film or all prompts | published / this | features differ by |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for tower, way in kinds:
        prefix = f"films/{tower}/{way}/"
        ratio = _median(rows, f"films/{tower}/published/", "cpu_s_per_film") / _median(rows, prefix, "cpu_s_per_film")
        span = _span(rows, prefix, "cpu_s_per_film", 1000, 0)
        lines.append(f"| {tower} | {way} | {span} | {ratio:.2f} | {max(_values(rows, prefix, 'difference')):.0e} |")
    for way in ("published", "ours"):
        prefix = f"prompts/{way}/"
        ratio = _median(rows, "prompts/published/", "cpu_s") / _median(rows, prefix, "cpu_s")
        span = _span(rows, prefix, "cpu_s", 1000, 0)
        lines.append(f"| 28 prompts | {way} | {span} | {ratio:.2f} | {max(_values(rows, prefix, 'difference')):.0e} |")
    return "\n".join(lines)


def _product(rows: Rows) -> str:
    found = rows.get("product")
    if not found:
        return ""
    return (
        f"A thousand films against a thousand prompts (`tiny`): {found['films']:.0f} films and {found['texts']:.0f} "
        f"texts encoded, filling rows included ({found['film_cpu_s']:.1f} s and {found['text_cpu_s']:.1f} s), then "
        f"{found['answers']:.0f} answers by {found['matrix_products']:.0f} matrix product in "
        f"{1000 * found['product_cpu_s']:.0f} ms, with {found['encoded_for_the_product']:.0f} encodings."
    )


def _memory(rows: Rows) -> str:
    pieces = {key: row for key, row in rows.items() if key.startswith("memory/")}
    if not pieces:
        return ""
    lines = [
        "| pairs | activations held of | memory of the step, GiB | CPU s | loss |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for key, row in pieces.items():
        _, pairs, cached = key.split("/")
        held = "all" if cached == "0" else f"{cached} rows"
        lines.append(f"| {pairs} | {held} | {row['gib']:.2f} | {row['cpu_s']:.0f} | {row['loss']:.4f} |")
    return "\n".join(lines)
