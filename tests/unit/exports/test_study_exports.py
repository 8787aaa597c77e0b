from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from crrg.domain.labels import LABELS
from crrg.domain.study import Film, ViewPosition
from crrg.errors import ImageError, ModelError, StorageError
from crrg.exports import review
from crrg.exports.documents import (
    DraftingBundle,
    attention_flags,
    document_files,
    region_table,
    report_text,
    study_documents,
)
from crrg.exports.page_pictures import find_pictures
from crrg.exports.parquet import (
    DraftedFilm,
    check_draft,
    regions_table,
    reports_table,
    with_primary,
    without_films,
)
from crrg.exports.pictures import evidence_png, film_png
from crrg.exports.review import NightFacts, _pieces, review_files
from crrg.exports.superseded import Replacement, read_superseded, superseded_script
from crrg.exports.work_list import RefusedObject
from tests.support.drawn_night import draft_of, evidence_of

BUNDLES = {"bundle": DraftingBundle("7", {"Edema": 0.25}), "newer": DraftingBundle("8", {"Edema": 0.75})}


def drafted(
    instance: str, value: int, study: str = "s", findings: str | None = None, bundle_id: str = "bundle"
) -> DraftedFilm:
    pixels = np.full((8, 10), value, np.uint8)
    film = Film(pixels, 100, 80, ViewPosition.PA, None, False, b"", ("paediatric",))
    draft = draft_of(film)
    draft = replace(draft, findings=findings) if findings else draft
    return DraftedFilm(study, instance, b"\1" * 32, film.view_position, 100, 80, film.flags, draft, bundle_id)


def documents(*films: DraftedFilm, primary: str) -> list[dict]:
    regions: dict[str, list] = {}
    for row in regions_table(films).to_pylist():
        regions.setdefault(row["instance_id"], []).append(row)
    sizes = {film.instance_id: (100, 80) for film in films}
    rows = reports_table(films, frozenset([primary])).to_pylist()
    return study_documents(rows, regions, sizes, BUNDLES)


def test_rows_are_sorted_and_count_sentences():
    table = reports_table([drafted("b", 10), drafted("a", 200)], frozenset(["a"]))
    assert table["instance_id"].to_pylist() == ["a", "b"]
    assert table["is_primary"].to_pylist() == [True, False]
    assert table["num_regions_reported"].to_pylist() == [2, 2]
    assert table["flags"].to_pylist() == [["paediatric", "text_without_label:Cardiomegaly"], ["paediatric"]]
    assert set(table["review_status"].to_pylist()) == {"draft"}
    assert regions_table([drafted("a", 10)]).num_rows == 29
    assert reports_table([], frozenset()).num_rows == 0


def test_dropping_and_choosing_again():
    table = reports_table([drafted("a", 1), drafted("b", 2), drafted("c", 3)], frozenset(["a"]))
    changed = with_primary(table, frozenset(["a"]), frozenset(["c"]))
    assert changed["instance_id"].to_pylist() == ["b", "c"]
    assert changed["is_primary"].to_pylist() == [False, True]
    assert changed.schema == table.schema
    assert without_films(regions_table([drafted("a", 1), drafted("b", 2)]), frozenset(["a"])).num_rows == 29


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {}},
        {"regions": ()},
        {"consistency": float("nan")},
        {"probabilities": dict.fromkeys(LABELS, 1.5)},
        {"probabilities": dict.fromkeys(LABELS, float("nan"))},
    ],
)
def test_draft_that_is_not_whole_is_refused(change):
    draft = drafted("a", 10).draft
    check_draft(draft, "a")
    with pytest.raises(ModelError, match="nothing was committed"):
        check_draft(replace(draft, **change), "a")


def test_study_takes_the_primary_text_and_the_highest_probabilities():
    (document,) = documents(drafted("a", 51), drafted("b", 102), primary="b")
    assert document["findings"] == "The lungs are clear. The heart measures 0.400."
    # (mean * (place + 3)) % 1 of the stand-in, Edema is place 4: 0.2 * 7 and 0.4 * 7.
    assert document["probabilities"]["Edema"] == 0.8
    assert document["labels"]["Edema"] == 1
    assert document["labels"]["Enlarged Cardiomediastinum"] == 1
    assert [film["instance_id"] for film in document["films"]] == ["b", "a"]
    assert document["status"] == "draft"


def test_a_study_shows_nothing_only_where_every_film_does():
    labels = {**dict.fromkeys(LABELS, 0), "No Finding": 1}
    one, other = drafted("a", 51), drafted("b", 102)
    clear = replace(one, draft=replace(one.draft, labels=labels))
    ill = replace(other, draft=replace(other.draft, labels={**labels, "No Finding": 0, "Pleural Effusion": 1}))
    (document,) = documents(clear, ill, primary="a")
    assert (document["labels"]["No Finding"], document["labels"]["Pleural Effusion"]) == (0, 1)
    (document,) = documents(clear, primary="a")
    assert document["labels"]["No Finding"] == 1


@pytest.mark.parametrize(
    ("older", "newer", "threshold"),
    [((0.5, 1), (0.6, 0), 0.25), ((0.2, 0), (0.1, 0), 0.25), ((0.1, 0), (0.2, 0), 0.75), ((0.3, 1), (0.8, 1), 0.75)],
)
def test_a_study_of_two_bundles_shows_the_threshold_of_the_film_that_decides(older, newer, threshold):
    films = []
    for name, (probability, label), bundle_id in (("a", older, "bundle"), ("b", newer, "newer")):
        film = drafted(name, 51, bundle_id=bundle_id)
        draft = replace(
            film.draft,
            probabilities={**film.draft.probabilities, "Edema": probability},
            labels={**film.draft.labels, "Edema": label},
        )
        films.append(replace(film, draft=draft))
    (document,) = documents(*films, primary="a")
    assert document["thresholds"] == {"Edema": threshold}
    assert document["labels"]["Edema"] == int(document["probabilities"]["Edema"] >= threshold)
    assert [film["thresholds"] for film in document["films"]] == [{"Edema": 0.25}, {"Edema": 0.75}]
    assert report_text(document).count("drafted by bundle") == 2


def test_documents_say_first_that_they_are_drafts():
    (document,) = documents(drafted("a", 51), primary="a")
    text = report_text(document)
    assert text.splitlines()[0].startswith("DRAFT - NOT REVIEWED. Written by a machine")
    assert "Not for diagnosis without a radiologist." in " ".join(text.split())
    assert "* 0.600  Enlarged Cardiomediastinum" in text
    assert "  0.400  Edema" in text
    files = document_files("p", [document])
    assert set(files) == {"p/documents/s/report.txt", "p/documents/s/report.json"}
    assert json.loads(files["p/documents/s/report.json"]) == document


def test_picture_is_the_film():
    pixels = np.arange(80, dtype=np.uint8).reshape(8, 10)
    read = cv2.imdecode(np.frombuffer(film_png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (read == pixels).all()
    with pytest.raises(ImageError):
        film_png(np.zeros((0, 4), np.uint8))


def test_maps_are_a_strip_of_tiles_in_the_order_of_the_regions():
    strip = cv2.imdecode(np.frombuffer(evidence_png([evidence_of(4)]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert strip.shape == (29 * 4, 4, 4)
    assert np.argwhere(strip[..., 3]).tolist() == [[24 * 4 + 3, 3]]
    with pytest.raises(ImageError):
        evidence_png([])


def test_the_page_asks_only_for_maps_that_there_are():
    shown = documents(drafted("a", 51), drafted("b", 52), primary="a")
    keys = ["r/review/films/a.png", "r/review/evidence/b.png", f"r/review/films/b.{'0' * 16}.png", "r/documents/s/x"]
    facts = NightFacts("2026-11-20", "b" * 32, "7", 0, {})
    part = dict(review_files(facts, shown, [], find_pictures(keys, "../review/")))["data-00000.js"]
    study = json.loads(part.removeprefix(b"window.CRRG_NIGHT.studies.push(").removesuffix(b");\n"))
    assert [film["evidence"] for film in study["films"]] == [None, "../review/evidence/b.png"]
    # another picture had the usual name already
    assert [film["picture"] for film in study["films"]] == [
        "../review/films/a.png", f"../review/films/b.{'0' * 16}.png"
    ]  # fmt: skip


def test_a_sentence_is_found_behind_those_before_it_whoever_said_them():
    findings = "The lungs are clear. Dr. Smith: The lungs are clear."
    (film,) = documents(drafted("a", 51, findings=findings), primary="a")[0]["films"]
    assert _pieces(film) == [["The lungs are clear.", [0], -1], " Dr. Smith: The lungs are clear."]
    film["findings"] = "Dr. Smith: The lungs are clear. The lungs are clear."
    assert _pieces(film) == ["Dr. Smith: The lungs are clear. ", ["The lungs are clear.", [0], -1]]


def test_every_region_stands_in_the_table_of_a_draft():
    film = Film(np.full((8, 10), 51, np.uint8), 100, 80, ViewPosition.PA, None, False, b"")
    lines = region_table(draft_of(film)).splitlines()
    assert len(lines) == 2 + 29
    assert lines[2] == "| right lung | 10, 8, 50, 72 | no | 0.10 | The lungs are clear. |"
    assert lines[3].split(" | ")[2:] == ["0.90", "0.10", " |"]


def test_what_replaced_a_draft_is_read_as_it_was_written():
    newer = {"b": Replacement("2026-11-21", "</script>", ""), "a": Replacement("2026-11-21", "01", "results/x.html")}
    script = superseded_script(newer)
    assert read_superseded(script) == newer
    assert b"<" not in script
    assert script.index(b'"a"') < script.index(b'"b"')
    for other in (b"", b"window.CRRG_SUPERSEDED=1", script[:-2], b"\xff"):
        with pytest.raises(ValueError):
            read_superseded(other)


def test_page_data_cannot_break_out_of_its_script():
    evil = "</script><script>alert(1)</script><!-- &\u2028"
    shown = documents(drafted("a", 51, findings=evil), primary="a")
    facts = NightFacts("2026-11-20", "b" * 32, "<b>7", 0, {"Edema": 0.25})
    files = dict(review_files(facts, shown, [RefusedObject("k", "PARSE.X", evil, "")]))
    data, part = files["data.js"], files["data-00000.js"]
    assert not any(character in data + part for character in (b"<", b">", b"&", "\u2028".encode()))
    value = json.loads(data.removeprefix(b"window.CRRG_NIGHT=").rstrip(b";\n"))
    study = json.loads(part.removeprefix(b"window.CRRG_NIGHT.studies.push(").removesuffix(b");\n"))
    assert "".join(study["films"][0]["findings"]) == value["quarantined"][0]["detail"] == evil
    assert value["thresholds"][LABELS.index("Edema")] == 0.25
    assert b"<b>7" not in files["index.html"]
    assert b"Content-Security-Policy" in files["index.html"]
    assert b"http://" not in files["index.html"].replace(b"http://www.w3.org", b"")


def test_the_page_of_many_studies_lies_in_parts_whatever_their_order(monkeypatch):
    monkeypatch.setattr(review, "STUDIES_PER_PART", 2)
    films = [drafted(f"i{number}", 40 * number + 9, study=f"s{number}") for number in range(5)]
    shown = [document for film in films for document in documents(film, primary=film.instance_id)]
    facts = NightFacts("2026-11-20", "b" * 32, "7", 0, {})
    files = dict(review_files(facts, shown, []))
    assert files == dict(review_files(facts, reversed(shown), []))
    parts = sorted(name for name in files if name.startswith("data-"))
    assert [files[name].count(b'"films":') for name in parts] == [2, 2, 1]
    assert all(f'<script src="{name}"></script>'.encode() in files["index.html"] for name in ("data.js", *parts))
    assert [row.split(b",")[0] for row in files["worklist.csv"].splitlines()[1:]] == [b'"s%d"' % n for n in range(5)]


def test_a_full_temporary_disk_is_said(monkeypatch):
    def full(prefix: str):
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr(review.tempfile, "TemporaryFile", full)
    shown = documents(drafted("a", 51), primary="a")
    with pytest.raises(StorageError, match=r"DISK\.FULL"):
        list(review_files(NightFacts("2026-11-20", "b" * 32, "7", 0, {}), shown, []))


def test_unknown_tags_are_notes_only():
    assert attention_flags(["age_unknown", "paediatric", "view_unknown"]) == ["paediatric"]
