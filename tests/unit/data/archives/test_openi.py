"""The collection's layouts and their oddities, one test each; films are drawn, texts and numbers are invented."""

from __future__ import annotations

import errno
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest

from crrg.data.archives.openi import OpeniSource
from crrg.data.archives.openi_xml import MAX_XML_BYTES, read_openi_report
from crrg.data.archives.source_kinds import detect_kind
from crrg.domain.labels import FINDINGS
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split, ViewPosition
from crrg.errors import DataError
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom
from tests.support.drawn_archives import PSEUDONYMS, build_pair, drawn_pixels, items_by_name, write_picture, write_rows
from tests.support.store_hooks import refusing

FRONTAL, LATERAL = "CXR7_IM-0300-1001", "CXR7_IM-0300-2001"
NAMED_TWICE = "CXR1_1_IM-0001-3001"


def report_xml(
    number: int,
    findings: str | None = "The drawn heart is of normal size.",
    impression: str | None = "Nothing new in this drawing.",
    codes: tuple[str, ...] = ("normal",),
    figures: tuple[str, ...] = (),
    head: str = "",
) -> str:
    """A report file in the published form, with the elements that nobody reads."""
    sections = {"COMPARISON": "None.", "INDICATION": "Invented cough", "FINDINGS": findings, "IMPRESSION": impression}
    texts = "".join(
        f'<AbstractText Label="{name}"/>' if text is None else f'<AbstractText Label="{name}">{text}</AbstractText>'
        for name, text in sections.items()
    )
    majors = "".join(f"<major>{escape(code)}</major>" for code in codes)
    images = "".join(
        f"<parentImage id={quoteattr(name)}><figureId>F{index}</figureId><caption>Drawn chest PA and lateral</caption>"
        f'<panel type="single"><url>/extract/{name}.jpg</url><imgModality>7</imgModality></panel></parentImage>'
        for index, name in enumerate(figures, 1)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{head}<eCitation><meta type="rr"/><uId id="CXR{number}"/>'
        f'<pmcId id="{number}"/><docSource>CXR</docSource><IUXRId id="{number}"/><licenseType>open-access</licenseType>'
        f'<MedlineCitation Owner="Nobody"><Article PubModel="Electronic"><ArticleTitle>Drawn collection</ArticleTitle>'
        f"<Abstract>{texts}</Abstract><AuthorList><Author><LastName>Nobody</LastName></Author></AuthorList></Article>"
        f"</MedlineCitation><MeSH>{majors}<automatic>heart size</automatic></MeSH>{images}</eCitation>"
    )


def write_report(root: Path, number: int, **changes: object) -> None:
    path = root / "ecgen-radiology" / f"{number}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(report_xml(number, **changes), encoding="utf-8")  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_report(tmp_path, 7, figures=(FRONTAL, LATERAL), codes=("Cardiomegaly/borderline", "Pleural Effusion/left"))
    write_picture(tmp_path / f"{FRONTAL}.png", 1)
    write_picture(tmp_path / f"{LATERAL}.png", 2)
    return tmp_path


def source_of(root: Path) -> OpeniSource:
    return OpeniSource(Storage(str(root)))


def only_item(root: Path):
    (item,) = source_of(root).items()
    return item


def code_of(data: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_openi_report(data.encode() if isinstance(data, str) else data)
    return caught.value.code


def test_the_download_is_recognised_by_its_folder(root):
    storage = Storage(str(root))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.OPENI


def test_several_pictures_of_a_report_are_rows_of_one_study(root):
    frontal, lateral = (build_pair(source_of(root), item) for item in source_of(root).items())
    assert frontal.study_id == lateral.study_id == PSEUDONYMS.study("7", "openi")
    assert frontal.patient_id == lateral.patient_id == PSEUDONYMS.patient("7", "openi")
    assert frontal.instance_id != lateral.instance_id
    assert frontal.report == lateral.report
    assert frontal.report.findings == "The drawn heart is of normal size."
    assert frontal.report.impression == "Nothing new in this drawing."
    assert frontal.report.indication == "Invented cough"


def test_a_report_without_pictures_on_hand_is_text(tmp_path):
    write_report(tmp_path, 7, figures=(FRONTAL, LATERAL))
    write_report(tmp_path, 8)
    items = items_by_name(source_of(tmp_path))
    assert set(items) == {"ecgen-radiology/7.xml", "ecgen-radiology/8.xml"}
    assert build_pair(source_of(tmp_path), items["ecgen-radiology/7.xml"]).film is None


def test_a_report_that_is_not_given_out_is_refused_while_others_are(root, monkeypatch):
    write_report(root, 8)
    source = source_of(root)
    refusing(monkeypatch, source.storage)(errno.EACCES, ["ecgen-radiology/8.xml"])
    refused = [(item.name, item.problem.code) for item in source.items() if item.problem]
    assert refused == [("ecgen-radiology/8.xml", "CHANGED.UNREADABLE")]


def test_a_missing_picture_is_named_and_the_others_keep_the_report(root):
    (root / f"{LATERAL}.png").unlink()
    found, missing = source_of(root).items()
    assert found.film is not None
    assert missing.problem is not None
    assert missing.problem.code == "NO_PIXELS.NO_FILE"
    assert "IM-0300" not in str(missing.problem)


def test_a_report_that_lost_all_its_pictures_stays_as_text(root):
    write_report(root, 9, figures=("CXR9_IM-0301-1001",))
    items = items_by_name(source_of(root))
    text = items["ecgen-radiology/9.xml"]
    assert text.problem is None
    assert text.film is None
    assert [item.problem.code for item in items.values() if item.problem] == ["NO_PIXELS.NO_FILE"]


def test_missing_findings_leave_the_impression(tmp_path):
    write_report(tmp_path, 8, findings=None)
    pair = build_pair(source_of(tmp_path), only_item(tmp_path))
    assert pair.report.findings is None
    assert pair.report.impression == "Nothing new in this drawing."


def test_neither_findings_nor_impression_is_refused_only_without_a_film(root):
    write_report(root, 7, findings=None, impression=None, figures=(FRONTAL, LATERAL))
    write_report(root, 8, findings=None, impression=None)
    items = items_by_name(source_of(root))
    assert items["ecgen-radiology/8.xml"].problem.code == "REPORT.EMPTY"
    assert items[f"{FRONTAL}.png"].problem is None


def test_placeholders_become_one_token(tmp_path):
    write_report(tmp_path, 8, findings="There are no XXXX of an effusion. XXXX XXXX stable.")
    pair = build_pair(source_of(tmp_path), only_item(tmp_path))
    assert pair.report.findings == "There are no <deid> of an effusion. <deid> <deid> stable."


def test_escapes_are_undone_also_where_they_were_escaped_twice(tmp_path):
    write_report(tmp_path, 8, findings="Nodule &lt; 5 mm &amp;amp; scar &amp;lt; 2 mm, R&amp;D&#160;mark.")
    assert only_item(tmp_path).report.findings == "Nodule < 5 mm & scar < 2 mm, R&D mark."


def test_escapes_that_stayed_in_the_table_are_undone(tmp_path):
    row = {"uid": "3", "findings": "Angle &gt; 90 degrees.", "impression": "", "mesh_major": ""}
    write_rows(tmp_path / "reports.csv", [row])
    assert only_item(tmp_path).report.findings == "Angle > 90 degrees."


def test_a_section_in_parts_is_read_as_a_whole(tmp_path):
    text = 'First part.</AbstractText><AbstractText Label="FINDINGS">Second <b>bold</b>\n part.'
    write_report(tmp_path, 8, findings=text)
    assert only_item(tmp_path).report.findings == "First part. Second bold part."


def test_one_picture_named_twice_by_a_report_is_one_row(root):
    write_report(root, 7, figures=(FRONTAL, FRONTAL, LATERAL))
    assert len(items_by_name(source_of(root))) == 2


def test_a_second_report_of_the_same_number_is_refused(tmp_path):
    write_report(tmp_path, 8)
    (tmp_path / "ecgen-radiology" / "9.xml").write_text(report_xml(8, findings="Another text."))
    first, second = source_of(tmp_path).items()
    assert first.problem is None
    assert second.problem is not None
    assert second.problem.code == "IDENTITY.CONFLICT"


def test_a_picture_belongs_to_the_first_report_that_names_it(root):
    write_report(root, 8, figures=(FRONTAL,))
    owners = [item.patient_id for item in source_of(root).items() if item.film and FRONTAL in item.film.key]
    assert owners == ["7"]


def test_a_picture_without_a_report_is_kept_without_text(root):
    write_picture(root / "CXR5_IM-2117-1003002.png", 5)
    item = items_by_name(source_of(root))["CXR5_IM-2117-1003002.png"]
    assert (item.patient_id, item.report.text, item.labels) == ("5", "", {})


def test_the_number_of_the_table_and_of_the_file_is_the_same(tmp_path):
    assert read_openi_report(report_xml(31).encode()).uid == "31"
    without_uid = report_xml(31).replace('<uId id="CXR31"/>', "")
    assert read_openi_report(without_uid.encode()).uid == "31"


def test_a_file_without_number_is_refused(tmp_path):
    text = report_xml(31)
    for element in ('<uId id="CXR31"/>', '<pmcId id="31"/>', '<IUXRId id="31"/>'):
        text = text.replace(element, "")
    assert code_of(text) == "IDENTITY.MISSING"


def test_dicom_of_the_same_picture_counts_before_png(root):
    film = build_dicom(drawn_pixels(3), BitsStored=8, HighBit=7, PatientID="foreign", ViewPosition="PA")
    (root / "7").mkdir()
    (root / "7" / "7_IM-0300-2001.dcm").write_bytes(film)
    items = {item.instance_id: item for item in source_of(root).items()}
    again = [item for item in source_of(root).items() if item.problem]
    assert [(item.name, item.problem.code) for item in again if item.problem] == [(f"{LATERAL}.png", "DUPLICATE.FORM")]
    lateral = build_pair(source_of(root), items["7_IM-0300-2001"])
    assert lateral.patient_id == PSEUDONYMS.patient("7", "openi")
    # the header calls the lateral film PA
    assert lateral.film is not None
    assert lateral.film.view_position is ViewPosition.LATERAL


def test_the_two_spellings_of_a_name_are_one_picture(tmp_path):
    write_report(tmp_path, 1, figures=(NAMED_TWICE,))
    write_picture(tmp_path / "images" / "1_IM-0001-3001.dcm.png", 4)
    assert only_item(tmp_path).film is not None


def test_projections_of_the_table_count_before_names_and_headers(root):
    write_rows(
        root / "indiana_projections.csv",
        [
            {"uid": "7", "filename": "7_IM-0300-1001.dcm.png", "projection": "Lateral"},
            {"uid": "7", "filename": "7_IM-0300-2001.dcm.png", "projection": "Frontal"},
        ],
    )
    views = {item.instance_id: item.view_position for item in source_of(root).items()}
    assert views == {"7_IM-0300-1001": ViewPosition.LATERAL, "7_IM-0300-2001": ViewPosition.UNKNOWN}


def test_without_a_table_only_the_usual_lateral_name_is_trusted(root):
    views = {item.instance_id: item.view_position for item in source_of(root).items()}
    assert views == {"7_IM-0300-1001": None, "7_IM-0300-2001": ViewPosition.LATERAL}


def test_codes_are_labels_and_borderline_is_uncertain(root):
    item = next(iter(source_of(root).items()))
    assert item.labels == {"Cardiomegaly": -1, "Pleural Effusion": 1, "No Finding": 0}
    assert item.label_source == "mesh"


def test_normal_denies_every_finding(tmp_path):
    write_report(tmp_path, 8, codes=("normal",))
    assert only_item(tmp_path).labels == {**dict.fromkeys(FINDINGS, 0), "No Finding": 1}


@pytest.mark.parametrize("codes", [(), ("No Indexing",), ("Technical Quality of Image Unsatisfactory ",)])
def test_a_study_that_nobody_coded_takes_its_labels_from_the_report(tmp_path, codes):
    write_report(tmp_path, 8, codes=codes)
    item = only_item(tmp_path)
    assert item.labels == {}
    assert item.label_source == ""


def test_automatic_terms_are_no_codes(tmp_path):
    text = report_xml(8, codes=()).replace("heart size", "Pneumothorax")
    assert read_openi_report(text.encode()).codes == ()


def test_an_external_entity_is_refused_and_not_fetched(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("CANARY")
    head = f'<!DOCTYPE eCitation [<!ENTITY other SYSTEM "file://{secret}">]>'
    assert code_of(report_xml(8, findings="&other;", head=head)) == "SECURITY.XML"


def test_a_billion_laughs_are_refused_before_they_are_told():
    laughs = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    assert code_of(report_xml(8, findings="&a9;", head=f"<!DOCTYPE eCitation [{laughs}]>")) == "SECURITY.XML"


def test_a_plain_document_type_is_refused_too():
    assert code_of(report_xml(8, head='<!DOCTYPE eCitation SYSTEM "http://nowhere.invalid/a.dtd">')) == "SECURITY.XML"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "EMPTY.FILE"),
        (b"<eCitation>", "PARSE.XML"),
        (report_xml(8)[:-40].encode(), "PARSE.XML"),
        (report_xml(8, findings="&nbsp;").encode(), "PARSE.XML"),
        (b'<?xml version="1.0" encoding="x-none"?><a/>', "PARSE.XML"),
        (b"<a>" * 100 + b"</a>" * 100, "LIMIT.REPORT"),
        (b"<a>" + b" " * MAX_XML_BYTES + b"</a>", "LIMIT.REPORT"),
        (b"<eCitation/>", "IDENTITY.MISSING"),
    ],
)
def test_damaged_files_are_refused_by_name(data, code):
    assert code_of(data) == code


def test_a_damaged_file_costs_one_input(root):
    (root / "ecgen-radiology" / "8.xml").write_text("<eCitation>Zebedee Quux")
    (root / "ecgen-radiology" / "10.xml").write_bytes(b" " * (MAX_XML_BYTES + 1))
    problems = {item.name: item.problem for item in source_of(root).items() if item.problem}
    assert {name: problem.code for name, problem in problems.items()} == {
        "ecgen-radiology/8.xml": "PARSE.XML",
        "ecgen-radiology/10.xml": "LIMIT.REPORT",
    }
    assert "Quux" not in str(problems["ecgen-radiology/8.xml"])


def test_the_split_of_a_table_beside_the_reports_is_kept(root):
    write_rows(
        root / "reports.csv",
        [{"uid": "7", "findings": "", "impression": "", "mesh_major": "", "r2gen_split": "val"}],
    )
    assert {item.split for item in source_of(root).items()} == {Split.VALIDATION}


def test_a_split_of_another_name_is_named_instead_of_drawn_by_lot(root):
    row = {"uid": "7", "findings": "", "impression": "", "mesh_major": "", "r2gen_split": "dev"}
    write_rows(root / "reports.csv", [row, {**row, "uid": "8", "r2gen_split": ""}])
    with pytest.raises(DataError, match="train, val, test") as caught:
        list(source_of(root).items())
    assert caught.value.code == "PARSE.TABLE"


def test_the_tabular_copy_joins_reports_and_pictures(tmp_path):
    row = {"uid": "7", "MeSH": "Cardiomegaly/mild", "Problems": "", "image": "", "indication": "", "comparison": ""}
    write_rows(tmp_path / "indiana_reports.csv", [{**row, "findings": "Drawn.", "impression": ""}])
    names = [("7_IM-0300-1001.dcm.png", "Frontal"), ("7_IM-0300-2001.dcm.png", "Lateral")]
    write_rows(
        tmp_path / "indiana_projections.csv",
        [{"uid": "7", "filename": name, "projection": projection} for name, projection in names],
    )
    for shade, (name, _) in enumerate(names):
        write_picture(tmp_path / "images" / "images_normalized" / name, shade)
    storage = Storage(str(tmp_path))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.OPENI
    frontal, lateral = source_of(tmp_path).items()
    assert (frontal.report.findings, frontal.labels["Cardiomegaly"]) == ("Drawn.", 1)
    assert frontal.view_position is ViewPosition.UNKNOWN
    assert lateral.view_position is ViewPosition.LATERAL


def test_the_table_alone_is_text_with_its_split(tmp_path):
    write_rows(
        tmp_path / "reports.csv",
        [
            {
                "uid": "3",
                "findings": "Drawn.",
                "impression": "",
                "mesh_major": "normal",
                "images": f"{FRONTAL};{LATERAL}",
            },
            {"uid": "4", "findings": "", "impression": "", "mesh_major": "normal", "images": ""},
        ],
    )
    first, second = source_of(tmp_path).items()
    assert (first.name, first.film, first.report.findings) == ("row 0", None, "Drawn.")
    assert second.problem is not None
    assert second.problem.code == "REPORT.EMPTY"
