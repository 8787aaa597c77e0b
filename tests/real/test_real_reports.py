"""The reports of Open-i through sections, language check and masks; nothing of them is shown when a test fails."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from crrg.data.privacy.person_masks import check_masked, mask_text
from crrg.data.reports.language import check_language
from crrg.data.reports.sections import clean_text, cut_report
from crrg.errors import ReportError

pytestmark = pytest.mark.real
COLUMNS = ("comparison", "indication", "findings", "impression")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    root = os.environ.get("CRRG_OPEN_DATA")
    if not root:
        pytest.skip("CRRG_OPEN_DATA is not set")
    with (Path(root) / "openi" / "reports.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_as_many_sections_are_cut_as_the_table_has(rows):
    whole = ["\n\n".join(f"{name.upper()}: {row[name]}" for name in COLUMNS if row[name]) for row in rows]
    cut = [cut_report(text) for text in whole]
    for name in ("indication", "findings", "impression"):
        in_table = sum(any(c.isalnum() for c in row[name]) for row in rows)
        num_cut = sum(getattr(sections, name) is not None for sections in cut)
        assert num_cut == in_table > 2000, name


def test_no_report_is_refused_and_no_measure_is_masked(rows):
    num_refused = num_masked = 0
    for row in rows:
        for name in COLUMNS:
            text = clean_text(row[name])
            masked = mask_text(text)
            num_masked += masked != text
            try:
                check_masked(masked)
            except ReportError:
                num_refused += 1
        try:
            check_language(clean_text(f"{row['findings']} {row['impression']}"))
        except ReportError:
            num_refused += 1
    assert (len(rows) > 3000, num_refused) == (True, 0)
    assert num_masked <= 3, "the source has removed dates and names already: what is masked now is a false alarm"
