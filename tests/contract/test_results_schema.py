"""The columns that other people's programs read; a change needs a new schema version and a line in the changelog."""

from __future__ import annotations

from crrg.data.dataset.quarantine import QUARANTINE_SCHEMA
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.ledger.ledger import LEDGER_SCHEMA
from crrg.ledger.manifest import Manifest

COLUMNS = [
    "enlarged_cardiomediastinum",
    "cardiomegaly",
    "lung_opacity",
    "lung_lesion",
    "edema",
    "consolidation",
    "pneumonia",
    "atelectasis",
    "pneumothorax",
    "pleural_effusion",
    "pleural_other",
    "fracture",
    "support_devices",
    "no_finding",
]


def described(schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]


def test_reports_have_these_columns_and_none_that_signs_off():
    assert described(REPORTS_SCHEMA) == [
        ("study_id", "string"),
        ("instance_id", "string"),
        ("is_primary", "bool"),
        ("source_digest", "fixed_size_binary[32]"),
        ("view_position", "string"),
        ("findings", "string"),
        ("impression", "string"),
        ("num_regions_reported", "int32"),
        *((f"probability_{column}", "float") for column in COLUMNS),
        *((f"label_{column}", "int8") for column in COLUMNS),
        ("superseded_by", "string"),
        ("consistency", "float"),
        ("flags", "list<item: string>"),
        ("bundle_id", "string"),
        ("review_status", "string"),
    ]
    assert REPORTS_SCHEMA.metadata[b"schema_version"] == b"1"


def test_regions():
    assert described(REGIONS_SCHEMA) == [
        ("instance_id", "string"),
        ("region", "string"),
        ("box_xyxy", "fixed_size_list<item: float>[4]"),
        ("detected", "bool"),
        ("score", "float"),
        ("selected", "bool"),
        ("abnormal_probability", "float"),
        ("phrase", "string"),
        ("phrase_logprob", "float"),
    ]
    assert REGIONS_SCHEMA.metadata[b"schema_version"] == b"1"


def test_ledger():
    assert described(LEDGER_SCHEMA) == [
        ("key_hmac", "string"),
        ("etag", "string"),
        ("source_digest", "binary"),
        ("pixel_digest", "binary"),
        ("patient_id", "string"),
        ("study_id", "string"),
        ("instance_id", "string"),
        ("outcome", "string"),
        ("reason", "string"),
        ("is_carried", "bool"),
        ("bundle_id", "string"),
        ("run_id", "string"),
    ]
    assert LEDGER_SCHEMA.metadata[b"schema_version"] == b"1"


def test_refused_inputs_of_ingests_and_nights():
    assert described(QUARANTINE_SCHEMA) == [
        ("key_hmac", "string"),
        ("source", "string"),
        ("etag", "string"),
        ("num_bytes", "int64"),
        ("source_digest", "binary"),
        ("study_id", "string"),
        ("instance_id", "string"),
        ("reason", "string"),
        ("detail", "string"),
        ("stage", "string"),
        ("run_id", "string"),
        ("version", "string"),
    ]
    assert QUARANTINE_SCHEMA.metadata[b"schema_version"] == b"2"


def test_only_what_may_be_missing_may_be_null():
    assert [field.name for field in LEDGER_SCHEMA if field.nullable] == []
    assert [field.name for field in QUARANTINE_SCHEMA if field.nullable] == ["num_bytes", "source_digest", "stage"]
    assert [field.name for field in REPORTS_SCHEMA if field.nullable] == ["superseded_by"]
    assert [field.name for field in REGIONS_SCHEMA if field.nullable] == ["phrase", "phrase_logprob"]


def test_partition_column_is_not_repeated():
    for schema in (REPORTS_SCHEMA, REGIONS_SCHEMA, LEDGER_SCHEMA, QUARANTINE_SCHEMA):
        assert "date" not in schema.names
        assert "run" not in schema.names


def test_manifest_fields():
    assert set(Manifest.model_fields) >= {
        "schema_version",
        "date",
        "run_id",
        "fencing",
        "bundle",
        "files",
        "num_inputs",
        "num_accepted",
        "num_quarantined",
        "num_pending",
        "reasons",
        "digest",
    }
    assert Manifest.model_fields["schema_version"].default == 1
