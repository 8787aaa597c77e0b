"""RadGraph F1 at its three levels, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.report_graph import Entity, ReportGraph, graph_from_annotation
from crrg.errors import ConfigError
from crrg.evaluation.radgraph import graph_f1, graph_f1s, graph_figures

PRESENT, ABSENT, PLACE = "OBS-DP", "OBS-DA", "ANAT-DP"


def graph(*entities: tuple[str, str, tuple[tuple[str, int], ...]]) -> ReportGraph:
    return ReportGraph(
        tuple(Entity(words, label, n, n, relations) for n, (words, label, relations) in enumerate(entities))
    )


def test_the_three_levels_ask_for_more_and_more() -> None:
    draft = graph(
        ("small", PRESENT, (("modify", 1),)), ("effusion", PRESENT, (("located_at", 2),)), ("left", PLACE, ()),
        ("pneumothorax", ABSENT, ()),
    )  # fmt: skip
    report = graph(
        ("effusion", PRESENT, (("located_at", 1),)), ("right", PLACE, ()), ("pneumothorax", ABSENT, ()),
    )  # fmt: skip
    # entities: effusion and pneumothorax, of four and of three
    assert graph_f1(draft, report)[0] == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    # the same with whether they are related, which both are alike
    assert graph_f1(draft, report)[1] == pytest.approx(4 / 7)
    # whole relations: an effusion of another place is none of theirs; pneumothorax alone, of four and of three
    assert graph_f1(draft, report)[2] == pytest.approx(2 / 7)
    assert graph_f1(report, draft) == pytest.approx(graph_f1(draft, report))


def test_an_entity_that_lost_its_relation_counts_at_the_first_level_only() -> None:
    draft = graph(("effusion", PRESENT, ()), ("left", PLACE, ()))
    report = graph(("effusion", PRESENT, (("located_at", 1),)), ("left", PLACE, ()))
    assert graph_f1(draft, report) == (1.0, 0.5, 0.5)


def test_labels_and_kinds_of_relations_count() -> None:
    one = graph(("effusion", PRESENT, (("located_at", 1),)), ("left", PLACE, ()))
    assert graph_f1(one, one) == (1.0, 1.0, 1.0)
    denied = graph(("effusion", ABSENT, (("located_at", 1),)), ("left", PLACE, ()))
    assert graph_f1(denied, one) == (0.5, 0.5, 0.5)
    other = graph(("effusion", PRESENT, (("suggestive_of", 1),)), ("left", PLACE, ()))
    assert graph_f1(other, one) == (1.0, 1.0, 0.5)


def test_each_relation_of_an_entity_counts_and_what_is_said_twice_counts_once() -> None:
    draft = graph(
        ("opacity", PRESENT, (("located_at", 1), ("located_at", 2))), ("lung", PLACE, ()), ("base", PLACE, ())
    )
    report = graph(("opacity", PRESENT, (("located_at", 1),)), ("lung", PLACE, ()), ("lung", PLACE, ()))
    # draft: two relations, lung, base; report: one relation, lung (twice)
    assert graph_f1(draft, report)[2] == pytest.approx(2 * (2 / 4) * (2 / 2) / (2 / 4 + 2 / 2))
    assert graph_f1(draft, report)[0] == pytest.approx(2 * (2 / 3) * (2 / 2) / (2 / 3 + 2 / 2))


def test_letters_count_as_written_except_in_relations() -> None:
    upper = graph(("Effusion", PRESENT, (("located_at", 1),)), ("LEFT", PLACE, ()))
    lower = graph(("effusion", PRESENT, (("located_at", 1),)), ("left", PLACE, ()))
    # the relation is the same; "LEFT" and "left", which have none, differ
    assert graph_f1(upper, lower) == (0.0, 0.0, 0.5)


def test_a_report_without_entities_gives_nothing_even_beside_another() -> None:
    one = graph(("effusion", PRESENT, ()))
    for pair in ((ReportGraph(), one), (one, ReportGraph()), (ReportGraph(), ReportGraph())):
        assert graph_f1(*pair) == (0.0, 0.0, 0.0)


def test_figures_are_means_over_reports_with_intervals_and_a_row_per_baseline() -> None:
    one, other = graph(("effusion", PRESENT, ())), graph(("edema", PRESENT, ()), ("effusion", PRESENT, ()))
    drafts, reports = [one, one, ReportGraph()], [one, other, one]
    assert graph_f1s(drafts, reports)[:, 0].tolist() == pytest.approx([1, 2 / 3, 0])
    patients = [str(row // 3) for row in range(18)]
    rivals = {"constant": [other] * 18, "neighbour": drafts * 6}
    figures = graph_figures(drafts * 6, reports * 6, patients, rivals)
    assert [figure.name for figure in figures[::2]] == [
        f"radgraph/{level}_f1" for level in ("simple", "partial", "complete")
    ]
    assert [figure.baseline_name for figure in figures] == ["constant", "neighbour"] * 3
    assert figures[0].value == figures[1].baseline == pytest.approx(5 / 9)
    assert figures[0].baseline == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    # patients are drawn whole, and these are alike
    assert (figures[0].low, figures[0].high) == (pytest.approx(5 / 9), pytest.approx(5 / 9))
    (plain, *_) = graph_figures(drafts, reports, ["a", "b", "b"])
    assert (plain.baseline_name, plain.baseline, plain.low) == ("", None, None)
    assert graph_figures([], [], []) == []
    assert np.shape(graph_f1s([], [])) == (0, 3)


def test_the_published_form_is_read_whatever_its_keys_and_nothing_else() -> None:
    annotation = {
        "text": "no acute process", "data_source": None, "data_split": "inference",
        "entities": {
            "7": {"tokens": "acute", "label": ABSENT, "start_ix": 1, "end_ix": 1, "relations": [["modify", "9"]]},
            "9": {"tokens": "process", "label": ABSENT, "start_ix": 2, "end_ix": 2, "relations": []},
        },
    }  # fmt: skip
    assert graph_from_annotation(annotation) == ReportGraph(
        (Entity("acute", ABSENT, 1, 1, (("modify", 1),)), Entity("process", ABSENT, 2, 2))
    )
    assert graph_from_annotation({"entities": {}}) == ReportGraph()
    lost = {"tokens": "acute", "label": ABSENT, "start_ix": 1, "end_ix": 1, "relations": [["modify", "9"]]}
    for wrong in ({}, {"entities": {"1": lost}}, {"entities": [3]}, {"entities": {"1": "acute"}}, [1], None):
        with pytest.raises(ConfigError, match="not in RadGraph's published form") as told:
            graph_from_annotation(wrong)
        assert "acute" not in str(told.value)
