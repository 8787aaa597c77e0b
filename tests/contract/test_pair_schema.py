from __future__ import annotations

import subprocess
import sys

import pyarrow as pa

from crrg.data.dataset.pairs import PAIR_SCHEMA, ROW_GROUP_ROWS, SCHEMA_VERSION
from crrg.data.images import golden_digest

WORD = "dictionary<values=string, indices=int8, ordered=0>"
LABEL_COLUMNS = (
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
)
COLUMNS = {
    "patient_id": "string",
    "study_id": "string",
    "instance_id": "string",
    "view_position": WORD,
    "image": "binary",
    "width": "int32",
    "height": "int32",
    "original_width": "int32",
    "original_height": "int32",
    "pixel_spacing_mm": "list<element: float>",
    "polarity_inverted": "bool",
    "indication": "string",
    "findings": "string",
    "impression": "string",
    "regions": None,
    "labels": None,
    "label_source": WORD,
    "source": WORD,
    "source_digest": "fixed_size_binary[32]",
    "pixel_digest": "fixed_size_binary[32]",
    "ingested_version": "string",
}
REGION_FIELDS = {
    "region": WORD,
    "box_xyxy": "fixed_size_list<element: float>[4]",
    "phrase": "string",
    "is_abnormal": "bool",
    "source": WORD,
}


def plain(kind: pa.DataType) -> str:
    return str(kind).replace("item:", "element:")


def test_schema_version_1_is_what_others_rely_on():
    assert SCHEMA_VERSION == 1
    assert list(PAIR_SCHEMA.names) == list(COLUMNS)
    for name, kind in COLUMNS.items():
        if kind is not None:
            assert plain(PAIR_SCHEMA.field(name).type) == kind, name
    assert [(field.name, str(field.type)) for field in PAIR_SCHEMA.field("labels").type] == [
        (name, "int8") for name in LABEL_COLUMNS
    ]
    region = PAIR_SCHEMA.field("regions").type.value_type
    assert {field.name: plain(field.type) for field in region} == REGION_FIELDS


def test_every_row_has_ids_and_a_report_without_film_has_nothing_of_a_film():
    assert [field.name for field in PAIR_SCHEMA if not field.nullable] == ["patient_id", "study_id", "instance_id"]


def test_row_groups_have_the_measured_size():
    assert ROW_GROUP_ROWS == 32


def test_partition_columns_are_not_repeated_inside_files():
    assert not {"version", "split"} & set(PAIR_SCHEMA.names)


def test_preprocessing_is_the_one_that_bundles_recorded():
    assert golden_digest() == "b1475367b9c2fc4c23370cf7911bc85c9679785d8c50909ba2f2c195e6b1b347"


def test_readers_of_pairs_and_decoders_stay_light():
    code = (
        "import sys, crrg.data.dataset.pairs, crrg.data.dataset.batches, crrg.data.decoding.pool;"
        "print([m for m in ('torch', 'polars', 'pydicom', 'mlflow', 'prefect', 'imagecodecs') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_trainings_and_drafts_need_none_of_what_a_borrowed_machine_lacks():
    """As docs/operations/platform.md says of a machine with a GPU and no package index."""
    lacking = ("prefect", "mlflow", "polars", "pydicom", "s3fs", "imagecodecs", "rapidfuzz")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({lacking}));"
        "import benchmarks.gpu_speed, benchmarks.nightly.measure, crrg.inference.pipeline;"
        "import crrg.training.clip, crrg.training.detector, crrg.training.generator, crrg.training.joint;"
        "import crrg.training.paper_stages, crrg.training.selector"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_decoding_children_load_neither_torch_nor_tables():
    code = (
        "import sys, crrg.data.decoding.child, crrg.data.dicom.film, crrg.data.pictures;"
        "print([m for m in ('torch', 'polars', 'pyarrow', 'mlflow', 'prefect') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
