"""Published figures stand in a scorecard of their own accord nowhere: in a section that says what they are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from crrg.domain.source_kind import SourceKind
from crrg.evaluation.published import HEADING, OTHER_FILMS, SAME_ARCHIVE, WARNING, published_tables
from crrg.evaluation.scorecard import FIGURES_VERSION, Figure, Scorecard

CARD = Scorecard((Figure("rgrg/bleu_4", 0.25),), 9, {"archives": "phantom, rsna"}, published_tables())


def test_every_table_says_protocol_data_and_source() -> None:
    tables = published_tables()
    assert len({table.title for table in tables}) == len(tables) >= 9
    for table in tables:
        assert all((table.archive, table.data, table.protocol, table.source, table.rows))
    values = [value for table in tables for row in table.rows for value in row.figures.values()]
    # shares, but for the ratio of METEORs and the number of regions
    assert sorted(value for value in values if not 0 <= value <= 1) == [1.68181, 28.7275]
    rows = {(table.title, row.system): row.figures for table in tables for row in table.rows}
    assert rows["RGRG and the systems it was compared with, reports", "RGRG (2023)"]["bleu_4"] == 0.126
    assert rows["CRRG-CLIP, reports", "CRRG-CLIP"]["bleu_4"] == 0.07816
    assert "bleu_1" not in rows["RGRG and the systems it was compared with, reports", "M2 Trans NLL (2021)"]


def test_the_section_says_what_cannot_be_compared() -> None:
    above, below = CARD.to_markdown().split(HEADING)
    assert "0.126" not in above
    assert WARNING in below
    assert "| RGRG (2023) | 0.373 | 0.249 | 0.175 | 0.126 | 0.168 | 0.264 | 0.495 |" in below
    assert "| figure | CRRG-CLIP |" in below
    tables = published_tables()
    assert below.count(SAME_ARCHIVE) == sum(table.archive == "rsna" for table in tables) == 2
    assert below.count(OTHER_FILMS) == len(tables) - 2


@pytest.mark.parametrize("archive", ["mimic-cxr", "chest-imagenome"])
def test_chest_imagenome_has_the_films_of_mimic(archive: str) -> None:
    below = replace(CARD, subject={"archives": archive}).to_markdown().split(HEADING)[1]
    assert below.count(SAME_ARCHIVE) == sum(table.archive == "mimic-cxr" for table in published_tables()) > 0
    known = {str(kind) for kind in SourceKind}
    assert {table.archive for table in published_tables()} <= known, "a table of an archive that nobody can ingest"


def test_published_figures_are_kept_and_are_no_figures_of_the_model() -> None:
    values = json.loads(json.dumps(CARD.to_dict(), allow_nan=False))
    assert values["figures_version"] == FIGURES_VERSION
    back = Scorecard.from_dict(values)
    assert back == CARD
    assert back.metrics == {"rgrg/bleu_4": 0.25}
    del values["published"]
    assert Scorecard.from_dict(values).published == ()


def test_figures_of_single_regions_stand_below_the_others() -> None:
    card = Scorecard((Figure("detection/iou/spine", 0.5, is_detail=True), Figure("rgrg/bleu_4", 0.25)))
    main, details = card.to_markdown().split("\n\n## By region and label\n\n")
    assert ("spine" in main, "bleu" in main) == (False, True)
    assert ("spine" in details, "bleu" in details) == (True, False)
    assert card.to_markdown({"rgrg/bleu_4"}) == main
    assert Scorecard.from_dict(card.to_dict()) == card
    assert HEADING not in CARD.to_markdown({"rgrg/bleu_4"})


def test_tables_for_a_tracker_have_columns_of_one_length() -> None:
    card = Scorecard((Figure("a", 1.0, None, None, "b", 0.5), Figure("c", float("nan"))), published=published_tables())
    table = card.to_table()
    assert table["figure"] == ["a", "c"]
    assert table["value"] == [1.0, None]
    assert table["margin"] == [0.5, None]
    published = card.published_table()
    assert len({len(column) for column in published.values()}) == 1
    assert all(published["protocol"])
