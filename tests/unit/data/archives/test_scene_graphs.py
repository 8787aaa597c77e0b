"""Reading one scene graph; regions, phrases and boxes are invented."""

from __future__ import annotations

import json

import pytest

from crrg.data.archives.scene_graphs import phrase_sentences, read_scene_graph
from crrg.domain.regions import REGIONS
from crrg.errors import AnnotationError
from tests.support.mimic_tree import scene_attribute, scene_graph_of, scene_object

NORMAL, ABNORMAL = ["nlp|yes|normal"], ["anatomicalfinding|yes|lung opacity", "nlp|yes|abnormal"]
LUNG, HEART = "right lung", "cardiac silhouette"
BOX = (4.0, 5.0, 20.0, 30.0)


def read(objects, attributes=()):
    return read_scene_graph(json.dumps(scene_graph_of("film", list(objects), list(attributes))).encode())


def only(objects, attributes=()):
    regions = read(objects, attributes).regions
    assert len(regions) == 1
    return regions[0]


def test_the_film_and_its_projection_are_named():
    graph = read([])
    assert (graph.image_id, graph.viewpoint, graph.regions) == ("film", "AP", ())


def test_boxes_are_those_of_the_film_not_of_the_small_square():
    assert only([scene_object(LUNG, BOX)]).box_xyxy == BOX


def test_corners_written_the_wrong_way_round_are_the_same_box():
    assert only([scene_object(LUNG, (20.0, 30.0, 4.0, 5.0))]).box_xyxy == BOX


@pytest.mark.parametrize("box", [(4.0, 5.0, 4.0, 30.0), (4.0, 5.0, 20.0, 5.0), (0.0, 0.0, 0.0, 0.0)])
def test_a_box_without_area_is_no_annotation(box):
    assert read([scene_object(LUNG, box)], [scene_attribute(LUNG, ("Clear lung.", NORMAL))]).regions == ()


def test_a_box_without_its_own_coordinates_is_no_annotation():
    entry = {name: value for name, value in scene_object(LUNG, BOX).items() if name != "original_x2"}
    assert read([entry]).regions == ()


def test_a_box_that_is_no_number_is_no_annotation():
    text = json.dumps(scene_graph_of("film", [scene_object(LUNG, BOX)], [])).replace('_x1": 4.0', '_x1": NaN')
    assert read_scene_graph(text.encode()).regions == ()


def test_a_region_with_two_boxes_keeps_the_last_that_has_an_area():
    boxes = [(1.0, 1.0, 2.0, 2.0), BOX, (3.0, 3.0, 3.0, 9.0)]
    assert only([scene_object(LUNG, box) for box in boxes]).box_xyxy == BOX


def test_only_the_29_regions_come_in_their_order():
    names = ["left chest wall", *reversed(REGIONS), "neck"]
    regions = read([scene_object(name, BOX) for name in names]).regions
    assert tuple(region.region for region in regions) == REGIONS


def test_a_phrase_of_a_region_without_box_is_no_annotation():
    assert read([], [scene_attribute(LUNG, ("Clear lung.", NORMAL))]).regions == ()


def test_a_region_without_phrase_is_normal():
    region = only([scene_object(LUNG, BOX)])
    assert (region.phrase, region.is_abnormal) == (None, False)


def test_one_abnormal_mark_makes_the_region_abnormal():
    entry = scene_attribute(LUNG, ("The apex is clear.", NORMAL), ("There is an opacity.", ABNORMAL))
    region = only([scene_object(LUNG, BOX)], [entry])
    assert region.is_abnormal
    assert region.phrase == "The apex is clear. There is an opacity."


@pytest.mark.parametrize("name", ["nlp|no|abnormal", "nlp|yes|normal", "anatomicalfinding|yes|lung opacity"])
def test_no_other_relation_is_the_mark(name):
    assert not only([scene_object(LUNG, BOX)], [scene_attribute(LUNG, ("Clear.", [name]))]).is_abnormal


def test_several_entries_of_a_region_are_joined_in_the_order_of_the_report():
    entries = [
        scene_attribute(LUNG, ("Third sentence.", NORMAL), first=9),
        scene_attribute(LUNG, ("First sentence.", NORMAL), ("Second sentence.", ABNORMAL), first=2),
    ]
    region = only([scene_object(LUNG, BOX)], entries)
    assert region.phrase == "First sentence. Second sentence. Third sentence."
    assert region.is_abnormal


def test_phrases_without_numbers_stay_as_listed():
    entry = {**scene_attribute(LUNG, ("Second.", NORMAL), ("First.", NORMAL)), "phrase_IDs": []}
    assert only([scene_object(LUNG, BOX)], [entry]).phrase == "Second. First."


def test_a_sentence_said_twice_is_kept_once():
    entry = scene_attribute(LUNG, ("Clear lung.", NORMAL), ("clear\n lung.", NORMAL), ("No mass.", NORMAL))
    assert only([scene_object(LUNG, BOX)], [entry]).phrase == "Clear lung. No mass."


def test_empty_phrases_leave_none():
    entry = scene_attribute(LUNG, ("", NORMAL), (" \n ", NORMAL), ("FINDINGS: ", NORMAL))
    assert only([scene_object(LUNG, BOX)], [entry]).phrase is None


def test_what_only_compares_with_an_earlier_film_is_left_out():
    entry = scene_attribute(LUNG, ("No change since the prior.", ["comparison|yes|no change"]), ("Clear.", NORMAL))
    assert only([scene_object(LUNG, BOX)], [entry]).phrase == "Clear."


def test_a_comparison_cue_without_any_finding_is_left_out():
    entry = {**scene_attribute(LUNG, ("Unchanged.", [])), "comparison_cues": [["comparison|yes|no change"]]}
    assert only([scene_object(LUNG, BOX)], [entry]).phrase is None


def test_a_finding_that_is_also_compared_is_kept():
    entry = scene_attribute(LUNG, ("The opacity has grown.", [*ABNORMAL, "comparison|yes|worsened"]))
    region = only([scene_object(LUNG, BOX)], [entry])
    assert (region.phrase, region.is_abnormal) == ("The opacity has grown.", True)


def test_relations_to_an_earlier_film_give_no_box_and_no_phrase():
    graph = scene_graph_of("film", [scene_object(LUNG, BOX)], [])
    graph["relationships"] = [
        {"subject_id": f"film_{HEART}", "object_id": f"earlier_{HEART}", "predicate": "['No status change']",
         "phrase": "The heart is unchanged.", "bbox_name": HEART, "relationship_names": ["comparison|yes|no change"]}
    ]  # fmt: skip
    regions = read_scene_graph(json.dumps(graph).encode()).regions
    assert [(region.region, region.phrase) for region in regions] == [(LUNG, None)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Heart\n size is mildly\n enlarged.", ["Heart size is mildly enlarged."]),
        ("the lungs are clear", ["The lungs are clear."]),
        ("IMPRESSION:  No effusion.", ["No effusion."]),
        ("Findings: No effusion.", ["No effusion."]),
        ("CHEST, TWO VIEWS: The lungs are clear.", ["The lungs are clear."]),
        ("Clear lungs. IMPRESSION: No effusion.", ["Clear lungs.", "No effusion."]),
        ("WET READ: ___ ___ 5:17 PM Small effusion.", ["Small effusion."]),
        ("Small effusion. WET READ VERSION #1 DR ___ 7:40 AM", ["Small effusion."]),
        ("FINAL REPORT PA AND LATERAL CHEST RADIOGRAPHS The lungs are clear.", ["The lungs are clear."]),
        ("PORTABLE CHEST RADIOGRAPH", []),
        ("AP and lateral views show clear lungs.", ["AP and lateral views show clear lungs."]),
        ("PA view shows an effusion.", ["PA view shows an effusion."]),
        ("Tip of the PICC: mid SVC.", ["Tip of the PICC: mid SVC."]),
        ("Nodule of 1.5 cm vs. scar. Clear otherwise.", ["Nodule of 1.5 cm vs. scar.", "Clear otherwise."]),
        ("___", []),
        ("", []),
    ],
)
def test_headers_views_and_preliminary_readings_are_no_sentences(text, sentences):
    assert phrase_sentences(text) == sentences


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"image_id": "a"}',
        b'{"objects": 3}',
        b'{"objects": [3]}',
        b'{"objects": [], "attributes": 3}',
        b'{"objects": [{"bbox_name": "spine", "original_x1": "a", "original_y1": 1, "original_x2": 2, "original_y2": 3'
        b"}]}",
        b'{"objects": [{"bbox_name": "spine", "original_x1": 1' + b"0" * 400 + b', "original_y1": 1, "original_x2": 2, '
        b'"original_y2": 3}]}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_scene_graph_is_refused(data):
    with pytest.raises(AnnotationError) as caught:
        read_scene_graph(data)
    assert caught.value.code == "PARSE.SCENE_GRAPH"
