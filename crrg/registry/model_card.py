"""The model card of a bundle: what it is for, what it was trained on, how good it was; Markdown, without dates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crrg.domain.bundle import SENTENCE_ENCODER

_HEAD = """# CRRG-CLIP bundle

**Drafts, not reports.** Everything this bundle writes is machine-made, unverified, and not for diagnosis without a
radiologist who looks at the film.

## Intended use

Drafts of the findings and impression of frontal chest radiographs, and calibrated probabilities of the 14 CheXpert
observations, for review by a radiologist. Not for children, not for other body parts or modalities, not for triage
without review.

## Training

"""


def model_card(spec: Mapping[str, Any]) -> str:
    """Return the card of a bundle.

    Args:
        spec: ``bundle.json`` as far as it is known: ``stages``, ``checkpoints``, ``metrics``, ``dataset_version``,
            ``thresholds``, ``preprocessing``; ``fusion``, ``findings``, ``sentence_encoder`` where there are such.
    """
    prepared = spec["preprocessing"]
    lines = [
        f"Dataset version `{spec['dataset_version']}`. Films of {prepared['image_size']} pixels on the longer side; "
        f"preprocessing version {prepared['version']}.",
        "",
        "| stage | checkpoint | validation figure | value |",
        "|---|---|---|---|",
    ]
    for stage, checkpoint in spec["checkpoints"].items():
        metrics = spec["metrics"].get(stage) or {"none recorded": float("nan")}
        for name, value in sorted(metrics.items()):
            lines.append(f"| {stage} | `{checkpoint}` | {name} | {value:.4g} |")
    lines += _imported_parts(spec)
    lines += _first_weights(spec)
    lines += _drafts(spec["stages"].get("clip", {}).get("drafts"))
    lines += ["", "## Operating points", "", _given(spec.get("fusion")), ""]
    lines += [_stated(spec.get("findings"), spec.get("decoding", {})), ""]
    lines += ["| observation | threshold | calibrated by |", "|---|---|---|"]
    for label, threshold in spec["thresholds"].items():
        lines.append(f"| {label} | {threshold:.3f} | {_calibration(spec.get('fusion'), label)} |")
    return _HEAD + "\n".join(lines) + "\n"


def _imported_parts(spec: Mapping[str, Any]) -> list[str]:
    """Return which parts were trained by others and are used as they were published."""
    parts = (*spec["stages"].values(), spec.get(SENTENCE_ENCODER) or {})
    found = [config["imported"] for config in parts if "imported" in config]
    if not found:
        return []
    about = "These parts were trained by others and are used as published; their licences bind this bundle too."
    head = ["| part | published as | sha256 | licence of these weights |", "|---|---|---|---|"]
    rows = [f"| {each['part']} | {each['source']} | `{each['sha256'][:16]}` | {each['licence']} |" for each in found]
    return ["", "## Parts that were imported", "", about, "", *head, *rows]


def _first_weights(spec: Mapping[str, Any]) -> list[str]:
    """Return what the stages started from, where not all of them started from random weights."""
    rows = [
        f"| {stage} | {weights['part']} of {weights['source']} | `{weights['sha256'][:16]}` | {weights['licence']} |"
        for stage, config in spec["stages"].items()
        for weights in config.get("initial_weights", [])
    ]
    if not rows:
        return []
    about = "These stages were trained on from weights of others, whose licences bind this bundle too."
    head = ["| stage | started from | sha256 | licence of these weights |", "|---|---|---|---|"]
    return ["", "## Weights it started from", "", about, "", *head, *rows]


def _drafts(drafts: Mapping[str, Any] | None) -> list[str]:
    """Return whose drafts CLIP read beside reports, where it read any."""
    if not drafts:
        return []
    about = (
        f"CLIP was trained on reports mixed with drafts of {drafts['num_films']} training films, version "
        f"`{drafts['version'][:16]}`, made by bundle `{drafts['bundle_id']}`."
    )
    return ["", "## Drafts it learnt from", "", about]


def _given(fusion: Mapping[str, Any] | None) -> str:
    if not fusion:
        return "Probabilities are those of the label head, which reads the film alone."
    settings = fusion["settings"]
    point = "the best F1" if settings["operating_point"] == "f1" else f"a specificity of {settings['specificity']:g}"
    return (
        "Probabilities are fused from the film, its draft and its regions, by a classifier fitted on "
        f"{fusion['num_films']} validation films; thresholds for {point}. No Finding is never likelier than the "
        "absence of the likeliest abnormality."
    )


def _stated(findings: Mapping[str, Any] | None, decoding: Mapping[str, Any]) -> str:
    if not decoding.get("reconcile"):
        return "Drafts state the findings that the regions show."
    if not findings:
        return "Drafts state the findings that the regions show, as far as the label head bears them out."
    return (
        "Drafts state the findings that film and regions show together, by a classifier fitted on "
        f"{findings['num_films']} validation films; where a draft departs from the regions it is flagged."
    )


def _calibration(fusion: Mapping[str, Any] | None, label: str) -> str:
    if not fusion:
        return "slope and bias of its logit"
    curve = fusion["labels"][label]["calibration"]
    return f"temperature {curve['temperature']:.2f}" if curve["kind"] == "temperature" else "a rising curve"
