from __future__ import annotations

import json

import pytest

from crrg.evaluation.scorecard import Figure, Scorecard

CARD = Scorecard(
    figures=(
        Figure("rgrg/bleu_4", 0.25, 0.2, 0.3, "best constant", 0.2),
        Figure("clinical/micro_f1", 0.5, 0.4, 0.6, "nearest neighbour", 0.2),
        Figure("clinical/micro_f1", 0.5, 0.4, 0.6, "all positive", 0.375),
        Figure("classification/edema_auc", float("nan")),
    ),
    num_studies=90,
    subject={"bundle_id": "b1"},
)


def test_json_round_trip() -> None:
    values = json.loads(json.dumps(CARD.to_dict(), allow_nan=False))
    back = Scorecard.from_dict(values)
    assert back.figures[:3] == CARD.figures[:3]
    assert back.figures[3].value != back.figures[3].value
    assert (back.num_studies, back.subject) == (90, {"bundle_id": "b1"})


def test_metrics_by_name() -> None:
    assert CARD.metrics == {"rgrg/bleu_4": 0.25, "clinical/micro_f1": 0.5}
    assert CARD["clinical/micro_f1"] == 0.5
    with pytest.raises(KeyError):
        CARD["nothing"]


def test_a_margin_is_above_zero_where_the_value_is_better() -> None:
    error = Figure("classification/mean_ece", 0.08, 0.07, 0.09, "majority", 0.06, lower_is_better=True)
    assert error.margin == pytest.approx(-0.02)
    assert Scorecard((error,)).to_markdown().endswith("| majority | 0.060 | -0.020 |")
    assert Scorecard.from_dict(Scorecard((error,)).to_dict()).figures == (error,)


def test_an_interval_of_no_value_is_no_interval() -> None:
    card = Scorecard((Figure("rgrg/bleu_4", 0.25, float("nan"), float("nan")),))
    assert (card.figures[0].low, card.figures[0].high) == (None, None)
    assert card.to_markdown().endswith("| rgrg/bleu_4 | 0.250 |  |  |  |  |")
    assert Scorecard.from_dict(card.to_dict()) == card
    assert (card.to_table()["low"], card.to_table()["high"]) == ([None], [None])


def test_a_baseline_of_no_value_is_none_in_every_form() -> None:
    card = Scorecard((Figure("clinical/micro_f1", 0.0, None, None, "nearest neighbour", float("nan")),))
    assert card.to_markdown().endswith("| clinical/micro_f1 | 0.000 |  | nearest neighbour |  |  |")
    assert Scorecard.from_dict(json.loads(json.dumps(card.to_dict()))).to_markdown() == card.to_markdown()


def test_table() -> None:
    lines = CARD.to_markdown().split("\n")
    assert lines[0] == "| figure | value | interval | baseline | baseline value | margin |"
    assert lines[2] == "| rgrg/bleu_4 | 0.250 | 0.200 to 0.300 | best constant | 0.200 | +0.050 |"
    assert lines[5] == "| classification/edema_auc | nan |  |  |  |  |"
    assert len(lines) == 6
