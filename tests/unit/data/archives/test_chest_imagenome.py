"""The annotations' layouts and their oddities, one test each; films are drawn, identifiers and reports invented."""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from crrg.config.data import IngestConfig
from crrg.data.archives.chest_imagenome import ChestImagenomeSource
from crrg.data.archives.members import Members
from crrg.data.archives.scene_graphs import read_scene_graph
from crrg.data.archives.source_kinds import detect_kind
from crrg.data.decoding.pool import decode_many
from crrg.data.phantom.cohort import write_cohort
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split, ViewPosition
from crrg.errors import DataError
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.drawn_archives import PSEUDONYMS, build_pair
from tests.support.mimic_tree import (
    HEIGHT,
    WIDTH,
    ImagenomeTree,
    folder_of,
    instance,
    scene_attribute,
    scene_graph_of,
    scene_object,
)

P1, P2 = "19000001", "19000002"
S1, S2 = "59000001", "59000002"
FRONTAL, LATERAL, OTHER = (instance(number) for number in (1, 2, 3))
LUNG, HEART = "right lung", "cardiac silhouette"
ABNORMAL = ["anatomicalfinding|yes|enlarged cardiac silhouette", "nlp|yes|abnormal"]


def graph_of(name: str):
    objects = [scene_object(LUNG, (4, 5, 20, 30), name), scene_object(HEART, (18, 15, 38, 35), name)]
    return scene_graph_of(name, objects, [scene_attribute(HEART, ("The heart is large.", ABNORMAL))])


@pytest.fixture
def tree(tmp_path: Path) -> ImagenomeTree:
    """A study with an annotated frontal and a lateral film, and another patient's frontal film."""
    tree = ImagenomeTree(tmp_path)
    tree.film(P1, S1, FRONTAL)
    tree.film(P1, S1, LATERAL)
    tree.film(P2, S2, OTHER)
    tree.report(P1, S1)
    tree.metadata((FRONTAL, P1, S1, "PA"), (LATERAL, P1, S1, "LATERAL"), (OTHER, P2, S2, ""))
    tree.splits((FRONTAL, S1, P1, "train"), (LATERAL, S1, P1, "train"), (OTHER, S2, P2, "train"))
    tree.silver_split("train")
    tree.silver_split("valid", (OTHER, P2, S2, "AP"))
    tree.silver_split("test", (FRONTAL, P1, S1, "PA"))
    tree.avoid(instance(77))
    tree.graph(FRONTAL, graph_of(FRONTAL))
    tree.graph(OTHER, graph_of(OTHER))
    return tree


def source_of(tree: ImagenomeTree) -> ChestImagenomeSource:
    return ChestImagenomeSource(Storage(str(tree.root)))


def item_of(tree: ImagenomeTree, name: str):
    found = [item for item in source_of(tree).items() if item.instance_id == name]
    assert len(found) == 1
    return found[0]


def code_of(tree: ImagenomeTree, name: str) -> str:
    problem = item_of(tree, name).problem
    assert problem is not None
    assert name not in str(problem)
    return problem.code


def test_annotations_beside_films_are_recognised(tree):
    storage = Storage(str(tree.root))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.CHEST_IMAGENOME


def test_a_frontal_film_has_boxes_phrases_and_marks(tree):
    pair = build_pair(source_of(tree), item_of(tree, FRONTAL))
    assert [(region.region, region.box_xyxy, region.phrase, region.is_abnormal) for region in pair.regions] == [
        (LUNG, (4, 5, 20, 30), None, False),
        (HEART, (18, 15, 38, 35), "The heart is large.", True),
    ]
    assert pair.report.impression == "No acute finding."
    assert pair.instance_id == PSEUDONYMS.instance(FRONTAL, "mimic-cxr")


def test_a_lateral_film_is_kept_without_boxes_in_the_split_of_its_patient(tree):
    item = item_of(tree, LATERAL)
    assert (item.regions, item.problem, item.split) == ((), None, Split.TEST)


def test_the_split_is_that_of_the_annotations(tree):
    assert item_of(tree, FRONTAL).split is Split.TEST
    assert item_of(tree, OTHER).split is Split.VALIDATION
    tree.report(P2, "59000008")
    alone = [item for item in source_of(tree).items() if item.film is None]
    assert [item.split for item in alone] == [Split.VALIDATION]


def test_a_patient_that_only_mimic_knows_keeps_its_split(tree):
    tree.film("19000005", "59000005", instance(5))
    tree.splits((instance(5), "59000005", "19000005", "validate"))
    assert item_of(tree, instance(5)).split is Split.VALIDATION


def test_a_blank_view_is_taken_from_the_annotations(tree):
    assert item_of(tree, OTHER).view_position is ViewPosition.AP
    tree.silver_split("valid", (OTHER, P2, S2, ""))
    tree.graph(OTHER, {**graph_of(OTHER), "viewpoint": "PA"})
    assert item_of(tree, OTHER).view_position is ViewPosition.PA


def test_films_to_avoid_are_refused(tree):
    tree.avoid(OTHER)
    assert code_of(tree, OTHER) == "QUALITY.AVOIDED"


def test_a_listed_film_without_scene_graph_is_a_failed_one(tree):
    (tree.root / f"silver_dataset/scene_graph/{OTHER}_SceneGraph.json").unlink()
    assert code_of(tree, OTHER) == "QUALITY.FAULTY"


def test_scene_graphs_may_lie_in_their_published_zip(tree):
    folder = tree.root / "silver_dataset" / "scene_graph"
    with zipfile.ZipFile(tree.root / "silver_dataset" / "scene_graph.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"scene_graph/{path.name}")
            path.unlink()
    assert len(item_of(tree, FRONTAL).regions) == 2
    assert "silver_dataset/scene_graph.zip" in {stored.key for stored in source_of(tree).inventory()}


def test_a_damaged_scene_graph_refuses_its_film_alone(tree):
    tree.graph(OTHER, b'{"objects": [')
    assert code_of(tree, OTHER) == "PARSE.SCENE_GRAPH"
    assert item_of(tree, FRONTAL).problem is None


def test_a_scene_graph_damaged_inside_the_zip_refuses_its_film_alone(tree):
    folder = tree.root / "silver_dataset" / "scene_graph"
    packed = tree.root / "silver_dataset" / "scene_graph.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"scene_graph/{path.name}")
            path.unlink()
    data = bytearray(packed.read_bytes())
    place = data.rindex(b"The heart is large.")
    data[place] ^= 0xFF
    packed.write_bytes(bytes(data))
    assert code_of(tree, OTHER) == "PARSE.ZIP"
    assert item_of(tree, FRONTAL).problem is None


def test_a_huge_scene_graph_is_not_read(tree):
    tree.graph(OTHER, b" " * (8 * 2**20 + 1))
    assert code_of(tree, OTHER) == "LIMIT.FILE_SIZE"


def test_a_scene_graph_of_another_film_is_a_conflict(tree):
    tree.graph(OTHER, graph_of(FRONTAL))
    assert code_of(tree, OTHER) == "IDENTITY.CONFLICT"


def test_a_split_row_of_another_patient_is_a_conflict(tree):
    tree.silver_split("valid", (OTHER, P1, S2, "AP"))
    assert code_of(tree, OTHER) == "IDENTITY.CONFLICT"


def test_annotations_whose_film_is_not_there_are_named(tree):
    tree.graph(instance(8), graph_of(instance(8)))
    tree.silver_split("train", (instance(9), P2, S2, "PA"))
    (tree.root / folder_of(P2, S2) / f"{OTHER}.jpg").unlink()
    missing = {item.instance_id: item.problem.code for item in source_of(tree).items() if item.problem}
    assert missing == dict.fromkeys((instance(8), instance(9), OTHER), "NO_PIXELS.NO_FILE")


def test_boxes_beyond_the_film_are_cut_and_those_outside_left_out(tree):
    objects = [scene_object(LUNG, (-6, 5, 20, 30)), scene_object(HEART, (60, 50, 90, 90)),
               scene_object("spine", (20, 0, 30, 44))]  # fmt: skip
    tree.graph(FRONTAL, scene_graph_of(FRONTAL, objects, []))
    pair = build_pair(source_of(tree), item_of(tree, FRONTAL))
    assert [(region.region, region.box_xyxy) for region in pair.regions] == [
        (LUNG, (0, 5, 20, 30)),
        ("spine", (20, 0, 30, HEIGHT)),
    ]


def shrink(tree: ImagenomeTree, size: tuple[int, int]) -> None:
    path = tree.root / folder_of(P1, S1) / f"{FRONTAL}.jpg"
    with Image.open(path) as picture:
        picture.resize(size).save(path)


def test_boxes_follow_a_smaller_copy_of_the_film(tree):
    shrink(tree, (WIDTH // 2, HEIGHT // 2))
    pair = build_pair(source_of(tree), item_of(tree, FRONTAL))
    assert pair.regions[0].box_xyxy == (2, 2.5, 10, 15)


def test_a_copy_of_another_shape_is_refused(tree):
    shrink(tree, (HEIGHT, HEIGHT))
    with pytest.raises(DataError) as caught:
        build_pair(source_of(tree), item_of(tree, FRONTAL))
    assert caught.value.code == "GEOMETRY.BOX"


def test_a_smaller_copy_of_unknown_scale_is_refused(tree):
    next(tree.root.glob("*metadata*")).unlink()
    shrink(tree, (WIDTH // 2, HEIGHT // 2))
    with pytest.raises(DataError) as caught:
        build_pair(source_of(tree), item_of(tree, FRONTAL))
    assert caught.value.code == "GEOMETRY.BOX"


def test_sizes_that_are_no_numbers_are_unknown(tree):
    path = next(tree.root.glob("*metadata*"))
    text = gzip.decompress(path.read_bytes()).decode().replace(f",{HEIGHT},{WIDTH},", ",0,wide,")
    path.write_bytes(gzip.compress(text.encode()))
    item = item_of(tree, FRONTAL)
    assert item.boxes_size is None
    assert len(build_pair(source_of(tree), item).regions) == 2


def test_identifiers_in_phrases_are_masked(tree):
    entry = scene_attribute(HEART, ("Compared with 3/12/2019 the heart is large.", ABNORMAL))
    graph = {**graph_of(FRONTAL), "attributes": [entry]}
    tree.graph(FRONTAL, graph)
    pair = build_pair(source_of(tree), item_of(tree, FRONTAL))
    assert pair.regions[1].phrase == "Compared with <deid> the heart is large."


def test_every_input_of_a_messy_copy_ends_once(tree, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))
    tree.avoid(OTHER)
    tree.graph(instance(8), graph_of(instance(8)))
    root = Storage(str(tmp_path_factory.mktemp("root")))
    config = IngestConfig(source=str(tree.root), dataset="x", image_size=64, max_failure_rate=1)
    summary = ingest(config, root, PSEUDONYMS)
    assert (summary.num_inputs, summary.num_accepted) == (4, 2)
    assert summary.reasons == {"NO_PIXELS.NO_FILE": 1, "QUALITY.AVOIDED": 1}
    assert summary.dataset.num_rows["test"] == 2


def test_scene_graphs_of_a_drawn_cohort_say_what_its_truth_says(tmp_path):
    write_cohort(str(tmp_path), 6, 3, 64)
    truth = {row["instance_id"]: row for row in pq.read_table(tmp_path / "truth.parquet").to_pylist()}
    graphs = [read_scene_graph(path.read_bytes()) for path in (tmp_path / "scene_graphs").glob("*_SceneGraph.json")]
    assert len(graphs) == len(truth)
    num_phrases = 0
    for graph in graphs:
        row = truth[graph.image_id]
        assert graph.viewpoint == row["view_position"]
        for region, entry in zip(graph.regions, row["regions"], strict=True):
            assert replace(region, box_xyxy=(0, 0, 1, 1), phrase=None) == replace(
                region, box_xyxy=(0, 0, 1, 1), phrase=None, region=entry["region"], is_abnormal=entry["is_abnormal"]
            )
            assert region.box_xyxy == pytest.approx(entry["box_xyxy"], abs=1e-3)
            assert region.phrase == entry["phrase"]
            num_phrases += region.phrase is not None
    assert num_phrases > 20
    assert json.loads(next((tmp_path / "scene_graphs").glob("*.json")).read_bytes())["relationships"] == []


def test_scene_graphs_are_read_on_the_way_not_before(tmp_path, monkeypatch):
    tree = ImagenomeTree(tmp_path)
    for number in range(300):
        path = tmp_path / folder_of(P1, f"5{number:07d}") / f"{instance(number)}.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        tree.graph(instance(number), graph_of(instance(number)))
    num_read = 0

    def counted(members: Members, name: str) -> bytes:
        nonlocal num_read
        num_read += 1
        return read(members, name)

    read = Members.read
    monkeypatch.setattr(Members, "read", counted)
    items = source_of(tree).items()
    first = next(items)
    assert len(first.regions) == 2
    assert num_read <= 32
    assert len(list(items)) == 299
    assert num_read == 300
