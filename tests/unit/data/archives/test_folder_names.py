"""Names in a table and names of files that differ in how they are written, and columns that nobody reads."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from crrg.data.archives.film_names import ByFilm
from crrg.data.archives.folder import FolderSource
from crrg.data.archives.sources import SourceItem
from crrg.storage import Storage
from tests.support.drawn_archives import write_picture

COMPOSED = unicodedata.normalize("NFC", "Thorax-ä.png")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def read(folder: Path, table: str, films: tuple[str, ...] = ("a.png",)) -> dict[str, SourceItem]:
    for number, name in enumerate(films):
        write_picture(folder / name, 9 * number)
    (folder / "reports.csv").write_text(table)
    return {item.name: item for item in FolderSource(Storage(str(folder))).items()}


@pytest.mark.parametrize(
    ("film", "name"),
    [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), ("x/f1.png", "F1.PNG"), ("F1.PNG", "f1")],
)
def test_a_name_that_is_written_in_another_way_finds_its_film(tmp_path, film, name):
    (item,) = read(tmp_path, f"file,findings\n{name},Clear.\n", (film,)).values()
    assert item.report.findings == "Clear."


@pytest.mark.parametrize(
    ("names", "films", "found"),
    [
        (["a.png"], ["a.png", "A.png"], {"a.png": ["a.png"]}),
        (["a.PNG"], ["a.png", "A.png"], {}),
        (["a.png", "A.png"], ["a.png"], {"a.png": ["a.png"]}),
        (["A.png", "a.PNG"], ["a.png"], {}),
        ([COMPOSED, DECOMPOSED], [COMPOSED], {COMPOSED: [COMPOSED, DECOMPOSED]}),
        ([COMPOSED, DECOMPOSED], [COMPOSED, DECOMPOSED], {COMPOSED: [COMPOSED], DECOMPOSED: [DECOMPOSED]}),
        (["F1"], ["x/f1.png", "y/f1.png"], {}),
        (["F1.png"], ["f1.png", "y/f1.png"], {"f1.png": ["F1.png"]}),
        (["b.png", "x/b.png"], ["x/b.png"], {"x/b.png": ["x/b.png", "b.png"]}),
    ],
)
def test_a_name_is_put_to_no_film_that_may_be_another_ones(names, films, found):
    by_film = ByFilm({name: name for name in names}, films)
    assert {film: by_film.of(film) for film in films if by_film.of(film)} == found
    assert {name for name, _, _ in by_film.left()} == set(names) - {name for said in found.values() for name in said}


def test_a_row_whose_file_is_not_here_says_so(tmp_path, caplog):
    items = read(tmp_path, "file,patient_id,findings\nb.png,,Clear.\nc.png,7,\nd.png,8,Mass.\n,,Clear.\n")
    problems = {name: item.problem and (item.problem.code, item.problem.reason) for name, item in items.items()}
    missing = "the table names a file that is not here, and "
    assert problems == {
        "a.png": None,
        "b.png": ("IDENTITY.MISSING", f"{missing}no patient whose report it could be"),
        "c.png": ("REPORT.NO_FILM", f"{missing}its row has no report"),
        "d.png": None,
        "table 1 row 4": None,
    }
    assert "files that are not here: 3" in caplog.text


def test_columns_that_are_not_read_are_told_once_and_a_person_among_them_is_not_named(tmp_path, caplog):
    read(tmp_path, "File,patient_id,impresion,Page,Meier\na.png,1,Clear.,,agrees\nb.png,2,Clear.,,agrees\n")
    (line,) = [each for each in caplog.messages if "not read" in each]
    told = "3 columns are not read: column 3 resembles `impression`, column 4 resembles `age`; docs/sources.md"
    assert line.startswith(f"table 1 of 1 in order of names: {told}")
    assert not any(name in caplog.text.lower() for name in ("page", "meier"))


@pytest.mark.parametrize(
    ("header", "is_refused"),
    [
        ("file,finding,impresion", True),
        ("study_id,finding,status", True),
        ("file,label", True),
        ("file,findings", False),
        ("file,Lung Opacity", False),
        ("file,patient_id", False),
        ("file,age", False),
        ("file,label,x1,y1,x2,y2", False),
        ("accession_number,report", False),
    ],
)
def test_a_table_that_says_nothing_of_what_it_names_is_refused(tmp_path, header, is_refused):
    row = ",".join(["a.png", "left lung", *"1234"][: header.count(",") + 1])
    items = read(tmp_path, f"{header}\n{row}\n")
    problem = items["reports.csv"].problem if "reports.csv" in items else None
    assert (problem.code if problem else "") == ("PARSE.TABLE" if is_refused else "")
    assert "a.png" in items


def test_a_table_whose_columns_are_all_read_is_not_told_of(tmp_path, caplog):
    header = "image,subject_id,study_id,view,sex,age,case_group,report,report status,version,Pleural Effusion"
    read(tmp_path, f"{header}\na.png,1,1,PA,F,40,g,Clear.,final,1,0\n")
    assert not caplog.messages
