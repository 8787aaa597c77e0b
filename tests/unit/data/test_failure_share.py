from __future__ import annotations

import pytest

from crrg.data.refusals import OUT_OF_SCOPE, failure_share
from crrg.operations.predict import PredictSummary


def test_what_is_out_of_scope_counts_on_neither_side():
    assert failure_share({"VIEW.LATERAL": 40, "PARSE.TRUNCATED": 8}, 0) == 1.0
    assert failure_share({**dict.fromkeys(OUT_OF_SCOPE, 100), "EMPTY.FILE": 1}, 3) == pytest.approx(1 / 4)
    assert failure_share({"VIEW.LATERAL": 40}, 0) == failure_share({}, 0) == 0.0


def test_a_prediction_whose_lateral_films_outnumber_the_broken_ones_is_over_the_limit():
    laterals = {f"{number}.dcm": "VIEW.LATERAL" for number in range(40)}
    assert PredictSummary(num_drafted=1, reasons={**laterals, "broken.dcm": "PARSE.TRUNCATED"}).exceeds_failure_rate
    assert not PredictSummary(num_drafted=4, reasons={**laterals, "broken.dcm": "PARSE.TRUNCATED"}).exceeds_failure_rate
