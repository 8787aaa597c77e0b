"""The template of the model card in the documents has the sections and tables of a generated card, in its order."""

from __future__ import annotations

import re
from pathlib import Path

from crrg.registry.model_card import model_card

DOCUMENT = Path(__file__).parents[2] / "docs" / "model-card.md"
LICENSED = {"part": "detector", "source": "rgrg", "sha256": "0" * 64, "licence": "MIT"}
SPEC = {
    "dataset_version": "d1",
    "preprocessing": {"image_size": 512, "version": 1},
    "checkpoints": {"detector": "01"},
    "metrics": {"detector": {"detection/mean_region_iou": 0.5}},
    "stages": {
        "detector": {"imported": LICENSED},
        "generator": {"initial_weights": [LICENSED]},
        "clip": {"drafts": {"num_films": 7, "version": "v" * 64, "bundle_id": "b1"}},
    },
    "thresholds": {"Edema": 0.5},
}
"""``bundle.json`` of a bundle whose card has every section."""


def outline(text: str) -> list[str]:
    """Return the headings and the first rows of the tables of a text, in its order."""
    return re.findall(r"^(?:#.*|\|.*(?=\n\|---))", text, re.MULTILINE)


def test_the_template_has_the_headings_and_tables_of_a_generated_card() -> None:
    template = DOCUMENT.read_text().split("```markdown\n")[1].split("```")[0]
    assert outline(template) == outline(model_card(SPEC))
