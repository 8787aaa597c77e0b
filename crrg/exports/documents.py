"""One examination as a text and a JSON document.

A study speaks with its primary film's draft; each probability is the maximum over its films. A finding is positive
where one film shows it, "No Finding" only where every film shows none. Films that different bundles drafted keep what
is theirs: version, thresholds and labels. Documents are made from table rows alone, so that a commit can make them
again without models or pixels. Every document says first that it is a machine's draft which no radiologist has read.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crrg.domain.labels import LABEL_COLUMNS, LABELS, NO_FINDING
from crrg.domain.study import DraftReport, reads_abnormal
from crrg.storage import canonical_json

SCHEMA_VERSION = 1
DISCLAIMER = (
    "DRAFT - NOT REVIEWED. Written by a machine (CRRG-CLIP); no radiologist has read or signed it. "
    "Not for diagnosis without a radiologist. Research software, not a medical device."
)
NO_IMPRESSION = "(no conclusion drafted; see findings)"
"""Stands for an empty impression, which does not say that nothing was found."""
TEXT_WIDTH = 100
DECIMALS = 4


@dataclass(frozen=True)
class DraftingBundle:
    """What documents say of the bundle that drafted a film.

    Attributes:
        model_version: Its version in the registry; empty if unregistered.
        thresholds: Probability from which a label counts as positive; empty where unknown.
        abnormal_threshold: Probability from which a region reads abnormal; ``None`` where unknown.
    """

    model_version: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    abnormal_threshold: float | None = None


def study_documents(
    reports: Sequence[Mapping[str, Any]],
    regions: Mapping[str, Sequence[Mapping[str, Any]]],
    sizes: Mapping[str, tuple[int, int]],
    bundles: Mapping[str, DraftingBundle],
) -> list[dict[str, Any]]:
    """Return one document per study, sorted by id.

    Version and bundle of a study are its primary film's. Its threshold of a label is that of the film that decides the
    label: of the films whose own label is the study's, the one with the highest probability.

    Args:
        reports: Report rows; exactly one of each study is primary.
        regions: Region rows per ``instance_id``.
        sizes: Width and height in original pixels per ``instance_id``.
        bundles: Those that drafted the films, by ``bundle_id``; of one that is not there nothing is known.
    """
    studies: dict[str, list[Mapping[str, Any]]] = {}
    for row in reports:
        studies.setdefault(row["study_id"], []).append(row)
    return [
        _study_document(
            sorted(rows, key=lambda row: (not row["is_primary"], row["instance_id"])), regions, sizes, bundles
        )
        for _, rows in sorted(studies.items())
    ]


def report_text(document: Mapping[str, Any]) -> str:
    """Return a study document as plain text; its first line says that it is a draft."""
    lines = [DISCLAIMER, "", f"Study {document['study_id']}", ""]
    for title, key, empty in (("FINDINGS", "findings", "(none)"), ("IMPRESSION", "impression", NO_IMPRESSION)):
        lines += [title, *(textwrap.wrap(document[key], TEXT_WIDTH) or [empty]), ""]
    lines.append("LABELS (calibrated probability, the highest of the films; * = at or above its threshold on a film,")
    lines.append(f"        {NO_FINDING} on every film)")
    for label in LABELS:
        mark = "*" if document["labels"][label] else " "
        lines.append(f"{mark} {document['probabilities'][label]:.3f}  {label}")
    lines += ["", "FLAGS", *(document["flags"] or ["(none)"]), "", "FILMS"]
    is_mixed = len(film_models(document)) > 1
    for film in document["films"]:
        role = "primary" if film["is_primary"] else "also seen"
        bundle_id, version = film_model(document, film)
        drafted = f"  drafted by bundle {bundle_id}, version {version or 'unregistered'}" if is_mixed else ""
        lines.append(f"{film['instance_id']}  {film['view_position']}  {role}{drafted}")
    lines += ["", f"Models: bundle {document['bundle_id']}, version {document['model_version'] or 'unregistered'}"]
    return "\n".join(lines) + "\n"


def document_files(prefix: str, documents: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Return key to bytes of ``report.txt`` and ``report.json`` of every study under a key prefix."""
    files: dict[str, bytes] = {}
    for document in documents:
        folder = f"{prefix}/documents/{document['study_id']}"
        files[f"{folder}/report.txt"] = report_text(document).encode()
        files[f"{folder}/report.json"] = canonical_json(document)
    return files


def film_model(document: Mapping[str, Any], film: Mapping[str, Any]) -> tuple[str, str]:
    """Return bundle and version that drafted a film; a document whose films do not say it has one for all."""
    said = film if "bundle_id" in film else document
    return str(said["bundle_id"]), str(said["model_version"])


def film_models(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the bundles that drafted a study's films, each with its version, the primary film's first."""
    return list(dict.fromkeys(film_model(document, film) for film in document["films"]))


def report_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return the key of each study's ``report.json`` among the objects of a run, by study."""
    reports = (key for key in keys if key.endswith(".json"))
    return {study: key for key in reports if (study := study_of(key))}


def study_of(key: str) -> str:
    """Return the study that a key of such a document is of; empty where it is of none."""
    above, _, name = key.rpartition("/")
    folder, _, study_id = above.rpartition("/")
    return study_id if folder.endswith("/documents") and name.startswith("report.") else ""


def attention_flags(flags: Iterable[str]) -> list[str]:
    """Return the flags that ask for a reader's attention.

    That a tag is unknown (``view_unknown``, ``age_unknown``, …) is noted on a draft; but a PNG has no tags at all, and
    a list where everything is flagged helps nobody.
    """
    return [flag for flag in flags if not flag.endswith("_unknown")]


def region_value(row: Mapping[str, Any], abnormal_threshold: float | None) -> dict[str, Any]:
    """Return a region row as JSON shows it.

    Args:
        row: Of the region table.
        abnormal_threshold: Of the bundle that drafted it; ``None`` where unknown.
    """
    logprob = row["phrase_logprob"]
    return {
        "region": row["region"],
        "box_xyxy": [round(float(value), 1) for value in row["box_xyxy"]],
        "detected": row["detected"],
        "score": round(float(row["score"]), DECIMALS),
        "selected": row["selected"],
        "abnormal_probability": round(float(row["abnormal_probability"]), DECIMALS),
        "is_abnormal": reads_abnormal(row["abnormal_probability"], abnormal_threshold),
        "phrase": row["phrase"],
        "phrase_logprob": None if logprob is None else round(float(logprob), DECIMALS),
    }


def is_region_abnormal(region: Mapping[str, Any]) -> bool:
    """Return whether a region of a document reads abnormal; documents of before said the probability alone."""
    return bool(region.get("is_abnormal", reads_abnormal(region["abnormal_probability"], None)))


def region_table(draft: DraftReport) -> str:
    """Return a Markdown table of a draft's 29 regions: where each is, whether it was found, and what is said of it."""
    lines = ["| region | box (x1, y1, x2, y2) | found | abnormal | sentence |", "| --- | --- | ---: | ---: | --- |"]
    for region in draft.regions:
        box = ", ".join(f"{value:.0f}" for value in region.box_xyxy)
        found = f"{region.score:.2f}" if region.detected else "no"
        lines.append(
            f"| {region.region} | {box} | {found} | {region.abnormal_probability:.2f} | {region.phrase or ''} |"
        )
    return "\n".join(lines) + "\n"


def group_regions(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return region rows by image, in their order."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["instance_id"], []).append(row)
    return grouped


def _study_document(
    rows: Sequence[Mapping[str, Any]],
    regions: Mapping[str, Sequence[Mapping[str, Any]]],
    sizes: Mapping[str, tuple[int, int]],
    bundles: Mapping[str, DraftingBundle],
) -> dict[str, Any]:
    primary = rows[0]
    columns = list(zip(LABELS, LABEL_COLUMNS, strict=True))
    own = {row["instance_id"]: bundles.get(row["bundle_id"], DraftingBundle()) for row in rows}
    deciding = {label: own[_deciding_row(rows, label, column)["instance_id"]] for label, column in columns}
    films = [
        {
            "instance_id": row["instance_id"],
            "is_primary": row["is_primary"],
            "view_position": row["view_position"],
            "width": sizes[row["instance_id"]][0],
            "height": sizes[row["instance_id"]][1],
            "findings": row["findings"],
            "impression": row["impression"],
            "consistency": round(float(row["consistency"]), DECIMALS),
            "flags": list(row["flags"]),
            "regions": [
                region_value(region, own[row["instance_id"]].abnormal_threshold)
                for region in regions.get(row["instance_id"], ())
            ],
            "thresholds": _known(own[row["instance_id"]].thresholds),
            "abnormal_threshold": own[row["instance_id"]].abnormal_threshold,
            "bundle_id": row["bundle_id"],
            "model_version": own[row["instance_id"]].model_version,
        }
        for row in rows
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "draft",
        "disclaimer": DISCLAIMER,
        "study_id": primary["study_id"],
        "findings": primary["findings"],
        "impression": primary["impression"],
        "probabilities": {
            label: round(max(float(row[f"probability_{column}"]) for row in rows), DECIMALS)
            for label, column in columns
        },
        "labels": {label: _study_label(rows, label, column) for label, column in columns},
        "thresholds": {label: each.thresholds[label] for label, each in deciding.items() if label in each.thresholds},
        "consistency": round(float(primary["consistency"]), DECIMALS),
        "flags": list(dict.fromkeys([*(flag for row in rows for flag in row["flags"]), *_study_flags(rows)])),
        "films": films,
        "bundle_id": primary["bundle_id"],
        "model_version": own[primary["instance_id"]].model_version,
    }


def _study_label(rows: Sequence[Mapping[str, Any]], label: str, column: str) -> int:
    return (min if label == NO_FINDING else max)(int(row[f"label_{column}"]) for row in rows)


def _deciding_row(rows: Sequence[Mapping[str, Any]], label: str, column: str) -> Mapping[str, Any]:
    given = _study_label(rows, label, column)
    alike = (row for row in rows if int(row[f"label_{column}"]) == given)
    return max(alike, key=lambda row: float(row[f"probability_{column}"]))


def _known(thresholds: Mapping[str, float]) -> dict[str, float]:
    return {label: thresholds[label] for label in LABELS if label in thresholds}


def _study_flags(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return ``mixed_bundles`` for a study whose films were drafted by different models."""
    return ["mixed_bundles"] if len({row["bundle_id"] for row in rows}) > 1 else []
