"""Boxes that people drew, beside films in a folder: masks and tables, all drawn here."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crrg.data.archives.folder import FolderSource
from crrg.data.archives.region_boxes import boxes_of_mask, boxes_of_rows
from crrg.data.dataset.pair_schema import pair_to_row, row_to_pair
from crrg.domain.study import RegionSource
from crrg.errors import DataError
from crrg.storage import Storage
from tests.support.drawn_archives import build_pair, items_by_name, write_picture, write_table

HEADER = "image,label,x1,y1,x2,y2,source"


def mask_bytes(height: int = 40, width: int = 50, mode: str = "L", values: tuple[int, int] = (1, 2)) -> bytes:
    """A right lung in columns 5..19 and rows 4..35, a left one in columns 28..44 and rows 6..33, of 50 x 40 pixels."""
    mask = np.zeros((40, 50), np.uint8)
    mask[4:36, 5:20] = values[0]
    mask[6:34, 28:45] = values[1]
    mask[10, 21] = values[0]
    picture = Image.fromarray(mask, "L").resize((width, height), Image.Resampling.NEAREST).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for shade, name in enumerate(("a", "b", "c")):
        write_picture(tmp_path / "images" / f"{name}.jpg", shade)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(mask_bytes())
    write_table(
        tmp_path / "boxes.csv",
        HEADER,
        "a.jpg,right lung,0,0,50,40,people",
        "b.jpg,lungs,0,0,50,40,some-mask",
        "b.jpg,left lung,30,5,44.5,30,people",
        "b.jpg,right lung,1,1,2,2,people",
        "b.jpg,right lung,6,5,20.5,35,some-mask",
        "b.jpg,right lung,3,3,4,4,people",
    )
    write_table(tmp_path / "images.csv", "image,patientid,view", "a.jpg,1,PA", "b.jpg,2,AP", "c.jpg,3,PA")
    return tmp_path


def source_of(root: Path) -> FolderSource:
    return FolderSource(Storage(str(root)))


def boxes(regions) -> dict[str, tuple[float, ...]]:
    return {region.region: region.box_xyxy for region in regions}


def item_of(root: Path, name: str):
    return items_by_name(source_of(root))[f"images/{name}.jpg"]


def test_a_lung_reaches_as_far_as_its_mask():
    regions, size = boxes_of_mask(mask_bytes())
    assert size == (50, 40)
    assert boxes(regions) == {"right lung": (5.0, 4.0, 22.0, 36.0), "left lung": (28.0, 6.0, 45.0, 34.0)}
    assert {region.source for region in regions} == {RegionSource.MASK}
    assert {(region.phrase, region.is_abnormal) for region in regions} == {(None, None)}


def test_a_lung_that_nobody_outlined_has_no_box():
    regions, _ = boxes_of_mask(mask_bytes(values=(0, 2)))
    assert list(boxes(regions)) == ["left lung"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (mask_bytes(values=(1, 3)), "GEOMETRY.MASK"),
        (mask_bytes(mode="RGB"), "GEOMETRY.MASK"),
        (b"\xff\xd8\xff\xe0", "GEOMETRY.MASK"),
        (mask_bytes()[:-30], "DECODE.TRUNCATED"),
        (b"", "GEOMETRY.MASK"),
    ],
    ids=["another value", "colours", "no PNG", "cut", "empty"],
)
def test_what_is_no_mask_is_refused_by_name(data, code):
    with pytest.raises(DataError) as caught:
        boxes_of_mask(data)
    assert caught.value.code == code


def test_masks_are_no_films_and_boxes_no_rows(root):
    items = items_by_name(source_of(root))
    assert sorted(items) == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]
    assert [items[name].patient_id for name in sorted(items)] == ["1", "2", "3"]
    keys = {stored.key for stored in source_of(root).inventory()}
    assert {"masks/a.png", "boxes.csv", "images.csv"} <= keys


def test_a_mask_counts_before_a_table(root):
    assert boxes(item_of(root, "a").regions)["right lung"] == (5.0, 4.0, 22.0, 36.0)


def test_of_several_boxes_of_a_region_one_made_from_a_mask_counts(root):
    assert boxes(item_of(root, "b").regions) == {
        "right lung": (6.0, 5.0, 20.5, 35.0),
        "left lung": (30.0, 5.0, 44.5, 30.0),
    }


def test_a_film_without_boxes_has_none(root):
    assert item_of(root, "c").regions == ()


def test_boxes_survive_the_way_into_parquet_and_back(root):
    for name in ("a", "b"):
        item = item_of(root, name)
        pair = build_pair(source_of(root), item)
        row = pair_to_row(pair)
        assert row["regions"][0]["source"] == "mask"
        assert boxes(row_to_pair(row, pair.split).regions) == boxes(item.regions)


def test_a_mask_of_half_the_size_gives_boxes_in_pixels_of_the_film(root):
    (root / "masks" / "a.png").write_bytes(mask_bytes(height=20, width=25))
    pair = build_pair(source_of(root), item_of(root, "a"))
    assert boxes(pair.regions)["left lung"] == (28.0, 6.0, 44.0, 34.0)


def test_a_mask_whose_sides_were_rounded_ends_where_its_film_ends(root):
    """101 x 67 pixels, halved to 50 x 33: a pixel of the mask is 2.02 across and 2.03 down."""
    write_picture(root / "images" / "a.jpg", height=67, width=101)
    buffer = io.BytesIO()
    Image.fromarray(np.ones((33, 50), np.uint8)).save(buffer, "PNG")
    (root / "masks" / "a.png").write_bytes(buffer.getvalue())
    pair = build_pair(source_of(root), item_of(root, "a"))
    assert boxes(pair.regions)["right lung"] == pytest.approx((0, 0, 101, 67), abs=0.01)


def test_a_mask_of_another_shape_refuses_its_film(root):
    (root / "masks" / "a.png").write_bytes(mask_bytes(height=50, width=40))
    with pytest.raises(DataError) as caught:
        build_pair(source_of(root), item_of(root, "a"))
    assert caught.value.code == "GEOMETRY.BOX"


def test_a_bad_mask_costs_one_film(root):
    (root / "masks" / "a.png").write_bytes(mask_bytes(mode="RGB"))
    problems = [item.problem.code for item in source_of(root).items() if item.problem]
    assert problems == ["GEOMETRY.MASK"]


@pytest.mark.parametrize("value", ["far left", "nan", "inf", ""])
def test_a_coordinate_that_is_no_number_is_named(value):
    row = {"image": "a", "label": "left lung", "x1": value, "y1": "0", "x2": "9", "y2": "9"}
    with pytest.raises(DataError) as caught:
        boxes_of_rows([row], ["image"])
    assert caught.value.code == "PARSE.TABLE"


def test_any_of_the_29_regions_may_be_drawn():
    row = {"image": "a", "label": "Cardiac Silhouette", "x1": "1", "y1": "2", "x2": "3", "y2": "4"}
    assert boxes(boxes_of_rows([row], ["image"])["a"]) == {"cardiac silhouette": (1.0, 2.0, 3.0, 4.0)}
