"""What the web page shows beside each field of a form: place, title and help."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from crrg.config.overrides import Overrides
from crrg.config.running import NightlyConfig
from tests.support.flow_forms import FORMS


def fields_of(form: type[BaseModel]) -> dict[str, list[dict[str, Any]]]:
    """Return the fields of a form and of the forms in it, by form."""
    schema = form.model_json_schema()
    return {
        name: list(part["properties"].values())
        for name, part in {form.__name__: schema, **schema.get("$defs", {})}.items()
    }


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_field_has_its_place_a_title_and_help(form: type[BaseModel]) -> None:
    for name, fields in fields_of(form).items():
        assert [field["position"] for field in fields] == list(range(len(fields))), name
        for field in fields:
            assert "$ref" in field or field["title"][0].isupper()  # a form in a form has its own title
            assert len(field["description"]) > 10, f"{name}: {field}"
            assert "\n" not in field["description"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_block_of_changes_says_what_its_fields_keep(form: type[BaseModel]) -> None:
    described = form.model_json_schema()["properties"]
    blocks = [name for name, field in form.model_fields.items() if isinstance(field.default, Overrides)]
    for name in blocks:
        assert "`None` keeps " in described[name]["description"], name


def test_help_is_what_the_docstring_says() -> None:
    schema = NightlyConfig.model_json_schema()
    assert schema["description"] == "Form of a night: what is new in the inbox becomes drafts and labels."
    assert schema["properties"]["resend_policy"]["description"].endswith("and marks the older draft as superseded.")
    assert "`supersede` drafts it" in schema["properties"]["resend_policy"]["description"]
