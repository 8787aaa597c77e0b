"""What may lie in the pseudonymous zone: an allow-list of keys, columns and values, and a walk over a finished root.

The search for markers (``canaries``) finds what it knows to look for; this list refuses what nobody thought of. Every
key, every column and every short value must have a form of our own. Free text is only where a draft, a masked report
or a sentence of ours about a refusal stands. The tracking server's and the orchestrator's own files are searched for
markers instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crrg.data.dataset.quarantine import INBOX
from crrg.domain.acquisition import AGE_BANDS, WORDS
from crrg.domain.labels import LABELS, label_column
from crrg.domain.regions import REGIONS
from crrg.domain.source_kind import SourceKind

ID = r"[a-z2-7]{26}"
HEX = r"[0-9a-f]{8,64}"
BESIDE = r"(?:\.[0-9a-f]{16})?"
"""Of an object that found another under its name (``crrg.ledger.beside``)."""
DAY = r"\d{4}-\d{2}-\d{2}"
NAME = r"[a-z0-9][a-z0-9_-]*"
STAGE = r"(?:detector|selector|generator|clip|joint)"

KEYS = tuple(
    re.compile(key)
    for key in (
        rf"datasets/{NAME}/_latest\.json",
        rf"datasets/{NAME}/_inputs/{HEX}/{HEX}\.parquet",
        rf"datasets/{NAME}/version={HEX}/(?:_(?:manifest|replaced)\.json|_acquisition\.parquet|card\.(?:json|md)|samples\.png)",
        rf"datasets/{NAME}/version={HEX}/split=(?:train|validation|test)/part-\d{{5}}\.parquet",
        rf"quarantine/(?:{NAME}|date={DAY})/{HEX}(?:-\d+)*{BESIDE}\.parquet",
        rf"ledger/date={DAY}/{HEX}(?:-\d+)*{BESIDE}\.parquet",
        rf"ledger/(?:_compacted-{HEX}\.parquet|_manifest-\d+\.json)",
        rf"control/forgotten/(?:{ID}|ids/{HEX})\.json",
        rf"leases/date={DAY}/\d+\.json",
        rf"results/date={DAY}/_manifest-\d+\.json",
        rf"results/date={DAY}/run={HEX}/(?:reports|regions)-(?:\d{{5}}(?:-settled)?|earlier)(?:-\d+)*{BESIDE}\.parquet",
        rf"results/date={DAY}/run={HEX}/(?:index(?:-\d+)?{BESIDE}|watch{BESIDE}|plan/plan|plan/inputs-\d{{5}}|shards/shard-\d{{5}})\.json",
        rf"results/date={DAY}/run={HEX}/documents/{ID}/report(?:{BESIDE}\.(?:txt|json)|\.superseded{BESIDE}\.txt)",
        rf"results/date={DAY}/run={HEX}/review(?:-\d+)?/(?:(?:films|evidence)/{ID}{BESIDE}\.png|index\.html|(?:worklist|review|superseded|data(?:-\d{{5}})?)\.js|review\.css|worklist{BESIDE}\.csv)",
        rf"checkpoints/{STAGE}/{HEX}/(?:model\.safetensors|(?:config|result|tokenizer)\.json)",
        rf"models/bundles/{HEX}/(?:(?:bundle|tokenizer|clip_tokenizer|reference)\.json|{STAGE}\.safetensors|model_card\.md)",
        rf"models/drafts/{HEX}/{NAME}-{HEX}-train-(?:nbest-(?:\d+|all)-)?{HEX}/(?:part-\d{{5}}\.parquet|_manifest\.json)",
        rf"models/references/{HEX}-{NAME}-{HEX}-\d+\.json",
        rf"models/scorecards/{HEX}/{NAME}\.(?:json|md|png)",
        r"models/aliases/champion\.json",
        rf"models/bundles/(?:{HEX}|test)",
        r"audit/(?:\d{8}\.json|probe)",
        r"demo\.key",
    )
)
TRACKING = ("mlflow.db", "mlflow-artifacts/", ".prefect/", "spool/")

_DETAIL = r"(?s).*"
_CODE = r"(?:[A-Z_]+(?:\.[A-Z_]+)?)?"
_WORDS = "|".join
_MARK = rf"(?:{HEX}(?:-\d+)?)?"
"""S3's ETag, or a digest over key, size and time of a local file: never the time itself."""
_ANY_ID = rf"(?:{ID})?"
_PAIRS = {
    "patient_id": ID, "study_id": ID, "instance_id": ID, "view_position": "PA|AP|LATERAL|LL|UNKNOWN",
    "image": None, "width": None, "height": None, "original_width": None, "original_height": None,
    "pixel_spacing_mm": None, "polarity_inverted": None, "indication": _DETAIL, "findings": _DETAIL,
    "impression": _DETAIL, "regions.region": _WORDS(map(re.escape, REGIONS)), "regions.box_xyxy": None,
    "regions.phrase": _DETAIL, "regions.is_abnormal": None, "regions.source": "scene_graph|mask|detector|atlas",
    **{f"labels.{label_column(label)}": None for label in LABELS},
    "label_source": "none|report|[a-z_]+", "source": _WORDS(SourceKind), "source_digest": None, "pixel_digest": None,
    "ingested_version": r"[0-9.+]+",
}  # fmt: skip
_DRAFTS = {
    "study_id": ID, "instance_id": ID, "is_primary": None, "source_digest": None,
    "view_position": _PAIRS["view_position"], "findings": _DETAIL, "impression": _DETAIL,
    "num_regions_reported": None, "superseded_by": rf"(?:{HEX})?", "consistency": None,
    "flags": r"[a-z_]+(?::[A-Za-z ]+)?",
    "bundle_id": HEX, "review_status": "draft",
    **{f"{kind}_{label_column(label)}": None for label in LABELS for kind in ("probability", "label")},
}  # fmt: skip
_REGIONS = {
    "instance_id": ID, "region": _PAIRS["regions.region"], "box_xyxy": None, "detected": None, "score": None,
    "selected": None, "abnormal_probability": None, "phrase": _DETAIL, "phrase_logprob": None,
}  # fmt: skip
COLUMNS: dict[str, dict[str, str | None]] = {
    "datasets/[^/]+/version=[^/]+/_acquisition": {
        "instance_id": ID, **{name: _WORDS(map(re.escape, words)) for name, words in WORDS.items()}
    },
    "datasets/[^/]+/version": _PAIRS,
    "datasets/[^/]+/_inputs": {
        "object_id": ID, "etag": _MARK, "num_bytes": None, "said": ID, "split": "(?:train|validation|test)?",
        "row": None, "instance_id": _ANY_ID, "pixel_digest": None, "winner": _ANY_ID, "reason": _CODE,
        "sentence": _DETAIL, "stage": "[a-z]*",
    },
    "quarantine/": {
        "key_hmac": ID, "source": _WORDS([*SourceKind, INBOX]), "etag": _MARK, "num_bytes": None,
        "source_digest": None, "study_id": _ANY_ID, "instance_id": _ANY_ID, "reason": _CODE, "detail": _DETAIL,
        "stage": "[a-z]+", "run_id": f"(?:{HEX})?", "version": r"[0-9.+]+",
    },
    "ledger/": {
        "key_hmac": ID, "etag": _MARK, "source_digest": None, "pixel_digest": None, "patient_id": _ANY_ID,
        "study_id": _ANY_ID, "instance_id": _ANY_ID, "outcome": "accepted|quarantined|pending", "reason": _CODE,
        "is_carried": None, "bundle_id": HEX, "run_id": HEX, "date": DAY,
    },
    "models/drafts/": {
        **dict.fromkeys(("patient_id", "study_id", "instance_id"), ID), "pixel_digest": None,
        **dict.fromkeys(("findings", "impression"), _DETAIL),
    },
    "results/.*/reports-": _DRAFTS,
    "results/.*/regions-": _REGIONS,
}  # fmt: skip
"""Columns by the beginning of a key; the expression that every text of the column matches, ``None`` for no text."""

_SHORT = re.compile(
    rf"(?:{ID}|{HEX}|{DAY}|{DAY}T[0-9:.+]+|\d+(?:\.\d+)*(?:\+\d+)?|[a-z][a-z0-9_]*|{_CODE}|{_PAIRS['view_position']}"
    rf"|{_WORDS(map(re.escape, (*LABELS, *REGIONS, *AGE_BANDS)))}|{_WORDS(SourceKind)}|{_DRAFTS['flags']}"
    rf"|[a-z-]+:[a-z0-9-]+"
    rf"|\d+ x \d+|(?:{DAY}|{NAME})/{HEX}|checkpoints/{STAGE}/{HEX}"
    rf"|(?:film|draft|device)/[a-z]+(?:/(?:{_WORDS(LABELS)}))?)?"
)
_SENTENCES = {"findings", "impression", "phrase", "sentence", "detail", "disclaimer", "title", "faults", "withheld"}
_OURS = {"name", "actor", "host", "preprocessing_version", "grounding", "crrg_version"}
"""Fields of JSON whose text a person of the house chose or this program wrote."""
_OTHER_PROGRAMS_JSON = ("models/", "checkpoints/")


def what_does_not_belong(root: Path) -> list[str]:
    """Return every key, column and value that the allow-list does not know, as ``key: what``."""
    found: list[str] = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        key = path.relative_to(root).as_posix()
        if key.startswith(TRACKING):
            continue
        if not any(allowed.fullmatch(key) for allowed in KEYS):
            found.append(f"{key}: key")
        elif key.endswith(".parquet"):
            found += [f"{key}: {what}" for what in _columns(key, path)]
        elif key.endswith(".json") and not key.startswith(_OTHER_PROGRAMS_JSON):
            found += [f"{key}: {what}" for what in _values(json.loads(path.read_text()), "")]
    return found


def _columns(key: str, path: Path) -> Iterator[str]:
    allowed = next((columns for start, columns in COLUMNS.items() if re.match(start, key)), {})
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        for name, column in _flat(file.read_row_group(group)):
            if name not in allowed:
                yield f"column {name}"
                continue
            if pa.types.is_temporal(column.type):
                yield f"column {name} of times"
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            if not pa.types.is_string(column.type):
                continue
            form = allowed[name]
            if form is None or any(
                re.fullmatch(form, each) is None for each in pc.unique(column.drop_null()).to_pylist()
            ):
                yield f"text in column {name}"


def _flat(table: pa.Table) -> Iterator[tuple[str, Any]]:
    """Yield columns; the fields of structures and lists of structures under ``column.field``."""
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_list(column.type) and not pa.types.is_primitive(column.type.value_type):
            column = pc.list_flatten(column)
        if pa.types.is_struct(column.type):
            for field in column.type:
                yield f"{name}.{field.name}", pc.struct_field(column, field.name)
        else:
            yield name, column


def _values(value: Any, field: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not _is_ours(name):
                yield f"field {name}"
            yield from _values(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, field)
    elif isinstance(value, str) and field not in _SENTENCES | _OURS and not _is_ours(value):
        yield f"text in {field}"


def _is_ours(text: str) -> bool:
    return _SHORT.fullmatch(text) is not None or any(allowed.fullmatch(text) for allowed in KEYS)
