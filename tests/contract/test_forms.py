"""The forms that people and schedules fill in.

To accept a change: ``CRRG_WRITE_FORMS=1 pytest tests/contract/test_forms.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from crrg.config.running import DeliverConfig, NightlyConfig, PromoteConfig, RetrainConfig
from tests.support.flow_forms import FORMS

SNAPSHOTS = Path(__file__).parent / "forms"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_form_changes_only_on_purpose(form: type[BaseModel]) -> None:
    path = SNAPSHOTS / f"{form.__name__}.json"
    schema = json.dumps(form.model_json_schema(), indent=1, sort_keys=True) + "\n"
    if os.environ.get("CRRG_WRITE_FORMS"):
        path.write_text(schema)
    assert schema == path.read_text()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_form_refuses_unknown_fields_and_cannot_change(form: type[BaseModel]) -> None:
    assert form.model_config.get("extra") == "forbid"
    assert form.model_config.get("frozen") is True


def test_a_bad_value_names_the_field() -> None:
    with pytest.raises(ValidationError, match="learning_rate"):
        RetrainConfig(learning_rate=-1)
    with pytest.raises(ValidationError, match="not both"):
        PromoteConfig(version=3, rollback=True)
    with pytest.raises(ValidationError, match=r"give VERSION or --rollback \["):
        PromoteConfig()
    with pytest.raises(ValidationError, match="Europe/Berlin"):
        NightlyConfig(inbox="x", timezone="Berlin")
    for zone in ("Berlin", "Europe", "../UTC"):
        with pytest.raises(ValidationError, match="Europe/Berlin"):
            DeliverConfig(inbox="x", timezone=zone)
    for title in ("", "   ", "A\\B", "Ä", "A\n", "A" * 17):
        with pytest.raises(ValidationError, match="not an AE title"):
            DeliverConfig(inbox="x", calling_title=title)
    assert DeliverConfig(inbox="x", called_title="PACS 1", timezone="Europe/Berlin").called_title == "PACS 1"


def test_the_retraining_hands_its_settings_to_the_stages() -> None:
    form = RetrainConfig(dataset="d", dataset_version="v", preset="small", num_steps=7, learning_rate=0.5, seed=3)
    stage = form.stage_config()
    assert (stage.dataset, stage.dataset_version, stage.preset) == ("d", "v", "small")
    assert (stage.num_steps, stage.learning_rate, stage.seed) == (7, 0.5, 3)


def test_settings_and_forms_load_without_torch_mlflow_and_prefect() -> None:
    code = (
        "import sys, crrg.config.running, crrg.config.data, crrg.config.presets, crrg.domain.study;"
        "import crrg.evaluation.scorecard;"
        "print([n for n in ('torch', 'mlflow', 'prefect', 'transformers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_and_inference_load_without_the_platform() -> None:
    code = (
        "import sys, crrg.training.clip, crrg.training.generator, crrg.inference.pipeline;"
        "print([n for n in ('mlflow', 'prefect', 'polars', 'pydicom') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
