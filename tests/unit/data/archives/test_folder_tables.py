"""Tables beside a folder of films, as hospitals export them: what each comes to, and that no row is lost in silence."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pyarrow as pa
import pydicom
import pytest
from pyarrow import parquet

from crrg.data.archives import tables
from crrg.data.archives.folder import FolderSource
from crrg.data.archives.sources import SourceItem
from crrg.data.dicom.study_words import HEAD_BYTES, StudyWords, read_study_words
from crrg.domain.study import ViewPosition
from crrg.errors import DataError
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom
from tests.support.drawn_archives import build_pair, write_picture

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
CLEAR = "FINDINGS: The lungs are clear. IMPRESSION: Normal."


def read(folder: Path, mode: str = "general") -> dict[str, SourceItem]:
    source = FolderSource(Storage(str(folder)))
    source.section_mode = mode
    return {item.name: item for item in source.items()}


def codes(items: dict[str, SourceItem]) -> list[str]:
    return sorted(item.problem.code for item in items.values() if item.problem)


def write_dicom(path: Path, **tags: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(build_dicom(**tags))


def test_two_versions_and_an_addendum_of_one_accession(tmp_path):
    for name in ("pa", "lateral"):
        write_dicom(tmp_path / "a" / f"{name}.dcm", AccessionNumber="A-1")
    write_dicom(tmp_path / "b.dcm", AccessionNumber="A-2")
    (tmp_path / "ris.csv").write_text(
        "AccessionNumber;Report;Report Status;Report Time\n"
        'A-1;"ADDENDUM: CT advised.";addendum;2019-03-14\n'
        'A-1;"IMPRESSION: Effusion.";final;2019-03-12\n'
        'A-1;"IMPRESSION: No effusion.";corrected;2019-03-13\n'
        'A-9;"IMPRESSION: Of no film.";final;2019-03-12\n'
    )
    items = read(tmp_path)
    assert items["a/pa.dcm"].report == items["a/lateral.dcm"].report
    assert items["a/pa.dcm"].report.impression == "No effusion. CT advised."
    assert items["b.dcm"].report.text == ""
    assert codes(items) == ["DUPLICATE.REPORT"]
    (alone,) = [item for item in items.values() if item.film is None and item.problem is None]
    assert (alone.report.impression, alone.study_id) == ("Of no film.", "A-9")
    assert len(items) == 5


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_report_finds_its_films_by_the_uid_of_the_study(tmp_path, syntax):
    write_dicom(tmp_path / "1.2.3.4", syntax=syntax, StudyInstanceUID="1.2.77")
    (tmp_path / "reports.csv").write_text(f"study_instance_uid,patient_id,report\n1.2.77,P-7,{CLEAR}\n")
    items = read(tmp_path)
    assert [item.report.impression for item in items.values()] == ["Normal."]


def test_a_report_of_another_patient_is_not_put_to_a_film(tmp_path):
    write_dicom(tmp_path / "a.dcm", AccessionNumber="A-1")
    (tmp_path / "reports.csv").write_text(f"accession,patient_id,report\nA-1,P-8,{CLEAR}\n")
    assert codes(read(tmp_path)) == ["IDENTITY.CONFLICT"]


def test_films_and_reports_in_tables_of_their_own(tmp_path):
    write_picture(tmp_path / "x" / "a.png", 0)
    write_picture(tmp_path / "x" / "b.png", 9)
    (tmp_path / "films.csv").write_text("File,Patient_ID,Study_ID,View\nx\\a.png,1,S1,PA\n./x/b.png,1,S1,lateral\n")
    (tmp_path / "labels.csv").write_bytes("study_id,Pleural Effusion\nS1,1\n".encode("utf-16"))
    (tmp_path / "reports.csv").write_text(f"study_id\treport\nS1\t{CLEAR}\n")
    items = read(tmp_path)
    assert {item.report.impression for item in items.values()} == {"Normal."}
    assert {(item.patient_id, item.study_id) for item in items.values()} == {("1", "1/S1")}
    assert [items[f"x/{name}.png"].view_position for name in "ab"] == [ViewPosition.PA, ViewPosition.LATERAL]
    assert all(item.labels == {"Pleural Effusion": 1} for item in items.values())
    assert len(items) == 2


def test_a_bare_name_that_fits_two_films_names_none(tmp_path):
    for number, folder in enumerate(("p1", "p2", "")):
        write_picture(tmp_path / folder / f"image{'' if folder else '0'}.png", 5 * number)
    rows = "image.png,1,Effusion.\np2/image.png,2,Clear.\nimage0,3,Mass.\n"
    (tmp_path / "reports.csv").write_text(f"file,patient_id,findings\n{rows}")
    items = read(tmp_path)
    assert items["p1/image.png"].report.text == ""
    assert items["p2/image.png"].report.findings == "Clear."
    assert items["image0.png"].report.findings == "Mass."
    assert codes(items) == ["IDENTITY.CONFLICT"]


def test_rows_that_give_one_film_to_two_patients_refuse_it(tmp_path):
    write_picture(tmp_path / "a.png")
    (tmp_path / "reports.csv").write_text("file,patient_id,findings\na.png,1,Clear.\na.png,2,Mass.\n")
    assert codes(read(tmp_path)) == ["DUPLICATE.REPORT", "IDENTITY.CONFLICT"]


def test_a_table_that_says_nothing_of_films_or_studies_is_named(tmp_path):
    write_picture(tmp_path / "a.png")
    (tmp_path / "people.csv").write_text("patient,age\n1,61\n")
    (tmp_path / "empty.csv").write_text("file,findings\n")
    assert codes(read(tmp_path)) == ["PARSE.TABLE"]


@pytest.mark.parametrize(("encoding", "text"), [("cp1252", "Erguß"), ("utf-16-le", "Mass"), ("utf-16-be", "Mass")])
def test_a_table_in_another_encoding_says_what_to_do(tmp_path, encoding, text):
    write_picture(tmp_path / "a.png")
    (tmp_path / "reports.csv").write_bytes(f"file;findings\na.png;{text}\n".encode(encoding))
    with pytest.raises(Exception, match="save it as UTF-8"):
        read(tmp_path)


def test_whole_reports_are_cut_as_the_form_says(tmp_path):
    write_picture(tmp_path / "a.png")
    (tmp_path / "reports.csv").write_text('file,report\na.png,"\n FINDINGS: Clear.\n OTHER: x\nImpression: Text."\n')
    assert read(tmp_path)["a.png"].report.impression == "Text."
    assert read(tmp_path, "compatible")["a.png"].report.impression is None


def test_a_header_that_cannot_be_read_names_no_study():
    data = build_dicom(AccessionNumber="A-1")
    assert read_study_words(data[:HEAD_BYTES]) == StudyWords("P-7", "A-1", "1.2.3", "1.2.3.4")
    for head in (b"", b"x" * 500, data[:140], data[:150] + b"\xff" * 50, data.replace(b"UI", b"QQ")):
        assert read_study_words(head).study_instance_uid == ""
    assert "A-1" not in repr(read_study_words(data))


@pytest.mark.parametrize(
    ("told", "tag", "expected"),
    [("frontal", "AP", "AP"), ("frontal", "LL", "UNKNOWN"), ("lateral", "PA", "LATERAL"), ("", "PA", "PA")],
)
def test_a_table_that_says_frontal_leaves_the_projection_to_the_film(tmp_path, told, tag, expected):
    write_dicom(tmp_path / "a.dcm", ViewPosition=tag)
    (tmp_path / "films.csv").write_text(f"file,view\na.dcm,{told}\n")
    source = FolderSource(Storage(str(tmp_path)))
    (item,) = source.items()
    assert build_pair(source, item).film.view_position.value == expected


def test_a_study_that_stands_behind_a_large_element_is_found(tmp_path):
    film = pydicom.dcmread(io.BytesIO(build_dicom()))
    film.add_new(0x00190010, "LO", "VENDOR")
    film.add_new(0x00191001, "OB", bytes(2 * HEAD_BYTES))
    film.save_as(tmp_path / "a.dcm")
    (tmp_path / "reports.csv").write_text(f"study_instance_uid,report\n1.2.3,{CLEAR}\n")
    assert read(tmp_path)["a.dcm"].report.impression == "Normal."


@pytest.mark.parametrize("name", ["films.csv", "films.parquet"])
def test_a_table_of_more_rows_than_memory_holds_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tables, "MAX_TABLE_ROWS", 3)
    frame = pl.DataFrame({"file": ["a.dcm"] * 4})
    (frame.write_csv if name.endswith(".csv") else frame.write_parquet)(tmp_path / name)
    with pytest.raises(DataError) as refused:
        read(tmp_path)
    assert refused.value.code == "LIMIT.TABLE"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('a.png,1,"Clear.', "line 2 .* is not closed"),
        ('a.png,1,"Clear "lungs", small heart."', "line 2 .* double every quote inside a cell"),
        ("a.png,1,No effusion, but a mass.", "line 2 .* more cells than its header"),
    ],
)
def test_a_report_takes_in_no_text_of_other_rows_and_loses_none_of_its_own(tmp_path, row, said):
    write_picture(tmp_path / "a.png")
    (tmp_path / "reports.csv").write_text(f'file,patient_id,findings\n{row}\nb.png,2,"Effusion."\nc.png,3,Mass.\n')
    with pytest.raises(DataError, match=said) as refused:
        read(tmp_path)
    assert refused.value.code == "PARSE.TABLE"
    assert "lungs" not in str(refused.value)


@pytest.mark.parametrize(
    ("start", "mark"),
    [
        ("sep=;\n", ";"),
        ("SEP=|\r\n", "|"),
        ('"sep=,"\n\n', ","),
        ("sep=^\n", "^"),
        ("sep=\t\r\n;;;\r\n", "\t"),
        ("\n \n", ";"),
        (";;;\r\n\r\n", ";"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_line_that_names_what_sets_cells_apart_and_blank_lines_come_before_the_header(
    tmp_path, start, mark, encoding
):
    write_picture(tmp_path / "a.png")
    rows = [["file", "patient_id", "findings"], ["a.png", "1", '"Clear, no effusion; no mass | ^ seen."'], []]
    (tmp_path / "r.csv").write_bytes((start + "\n".join(mark.join(row) for row in rows)).encode(encoding))
    items = read(tmp_path)
    assert list(items) == ["a.png"]
    assert items["a.png"].report.findings == "Clear, no effusion; no mass | ^ seen."
    assert items["a.png"].patient_id == "1"


def test_a_table_that_cannot_be_read_is_told_by_its_place_and_line(tmp_path):
    write_picture(tmp_path / "a.png")
    (tmp_path / "films.csv").write_text("file,patient_id\na.png,1\n")
    (tmp_path / "reports.csv").write_text("sep=,\n\nfile,findings\na.png,No effusion, but a mass.\n")
    with pytest.raises(DataError, match=r"table 2 of 2.*line 4 of the table has more cells"):
        read(tmp_path)


def test_text_in_parquet_that_is_no_text_is_told_without_a_line(tmp_path):
    ends = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0")
    texts = pa.StringArray.from_buffers(2, ends, pa.py_buffer(b"a\xfc"))
    parquet.write_table(pa.table({"file": ["a.png", "b.png"], "findings": texts}), tmp_path / "reports.parquet")
    with pytest.raises(DataError, match=r"table 1 of 1 in order of names: the table is not UTF-8"):
        read(tmp_path)


def test_of_columns_of_one_name_the_first_that_has_text_counts(tmp_path):
    write_picture(tmp_path / "a.png")
    rows = 'a.png, "Clear, both.",,,\nb.png,,,"Mass.",, \n'
    (tmp_path / "r.csv").write_text(f'file, "findings",findings,Findings,\n{rows}')
    items = read(tmp_path)
    assert items["a.png"].report.findings == "Clear, both."
    assert items["b.png"].report.findings == "Mass."


def test_a_report_of_a_megabyte_is_refused_alone(tmp_path):
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", ord(name))
    (tmp_path / "r.csv").write_text(f"file,patient_id,findings\na.png,1,{'x ' * 2**20}\nb.png,2,Mass.\n")
    source = FolderSource(Storage(str(tmp_path)))
    long, short = source.items()
    with pytest.raises(DataError) as refused:
        build_pair(source, long)
    assert refused.value.code == "LIMIT.REPORT"
    assert build_pair(source, short).report.findings == "Mass."


def test_numbers_of_studies_that_begin_anew_with_each_patient_are_different_studies(tmp_path):
    rows = [("a", "1", "1"), ("b", "2", "1"), ("c", "1", "1"), ("d", "", "1")]
    for name, _, _ in rows:
        write_picture(tmp_path / f"{name}.png", ord(name))
    table = "".join(f"{name}.png,{patient},{study}\n" for name, patient, study in rows)
    (tmp_path / "films.csv").write_text(f"file,patient_id,study_id\n{table}")
    source = FolderSource(Storage(str(tmp_path)))
    studies = [build_pair(source, item).study_id for item in source.items()]
    assert studies[0] == studies[2]
    assert len(set(studies)) == 3


def test_a_label_that_is_no_value_refuses_its_row_and_words_for_values_are_read(tmp_path):
    cells = {
        "a": "positive",
        "b": "FALSE",
        "c": "Uncertain",
        "d": "n/a",
        "e": "2",
        "f": "nan",
        "g": "maybe",
        "h": "-1.0",
    }
    for name in cells:
        write_picture(tmp_path / f"{name}.png", ord(name))
    rows = "".join(f"{name}.png,{cell},1\n" for name, cell in cells.items())
    (tmp_path / "films.csv").write_text(f"file,Edema,Fracture\n{rows}")
    items = read(tmp_path)
    values = {name[0]: item.labels.get("Edema") for name, item in items.items() if item.problem is None}
    assert values == {"a": 1, "b": 0, "c": -1, "d": None, "f": None, "h": -1}
    assert codes(items) == ["INTEGRITY.LABELS"] * 2
    assert all("maybe" not in str(item.problem) for item in items.values())
