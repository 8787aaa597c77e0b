from __future__ import annotations

import pytest

from crrg.data.privacy.person_masks import check_masked, mask_text
from crrg.errors import ReportError

MASKED = (
    ("Unchanged since 03/12/2019.", "Unchanged since <deid>."),
    ("Unchanged since 3/12.", "Unchanged since <deid>."),
    ("Compared to 2019-03-12, stable.", "Compared to <deid>, stable."),
    ("Compared to 10/2/2180, stable.", "Compared to <deid>, stable."),
    ("Compared to March 3, 2213, stable.", "Compared to <deid>, stable."),
    ("Compared to 12.03.19, stable.", "Compared to <deid>, stable."),
    ("Film of 12 March 2019.", "Film of <deid>."),
    ("Film of March 12, 2019 reviewed.", "Film of <deid> reviewed."),
    ("Since March 12 the effusion is larger.", "Since <deid> the effusion is larger."),
    ("Seen on 12-MAR-2019.", "Seen on <deid>."),
    ("Stamp 2019-03-12T10:15:00 below.", "Stamp <deid> below."),
    ("Called (555) 123-4567 at once.", "Called <deid> at once."),
    ("Call 555-0142 or +44 20 7946 0958.", "Call <deid> or <deid>."),
    ("Paged at pager 41234.", "Paged at pager <deid>."),
    ("Write to a.reader@clinic.example.org today.", "Write to <deid> today."),
    ("See https://pacs.example.org/study/7 for it.", "See <deid> for it."),
    ("MRN: A12345 noted.", "<deid> noted."),
    ("Accession # RX-20-117.", "<deid>."),
    ("SSN 123-45-6789.", "SSN <deid>."),
    ("Number 12345678.", "Number <deid>."),
    ("Lives at 12 Old Mill Road, seen today.", "Lives at <deid>, seen today."),
    ("Sent to Springfield, IL 62704.", "Sent to <deid>."),
    ("Discussed with Dr. Quux at 10:45.", "Discussed with Dr. <deid> at 10:45."),
    ("Dr. Zebedee Q. Quux agreed.", "Dr. <deid> agreed."),
    ("DR. QUUX REVIEWED THE FILM.", "DR. <deid> REVIEWED THE FILM."),
    ("Mrs Quux fell.", "Mrs <deid> fell."),
    ("Electronically signed by: Zebedee Quux", "Electronically signed by: <deid>"),
    ("Told to Zebedee Quux, MD by telephone.", "Told to <deid>, MD by telephone."),
    ("Patient name: Quux, no film.", "Patient name: <deid>, no film."),
    ("A 93-year-old woman.", "A <deid>-year-old woman."),
    ("A 95 y.o. man, aged 97 years, at the age of 101.", "A <deid> y.o. man, aged <deid> years, at the age of <deid>."),
    ("Stable since 3/12/2350 and 2350-01-02.", "Stable since <deid> and <deid>."),
    ("CT of 12/2018, film of 05Mar2019, on the 5th of March.", "CT of <deid>, film of <deid>, on the <deid>."),
    ("Compared with 1/1; exam of 07/04.", "Compared with <deid>; exam of <deid>."),
    ("Mr.Smith and drs of dr. quux came.", "Mr.<deid> and drs of dr. <deid> came."),
    ("Drs. Quux and Zebedee agreed.", "Drs. <deid> agreed."),
    ("Tel 06221/123456, fax: 0049-6221-56-1234.", "<deid>, <deid>."),
    ("Seen from 10.20.30.40, serial no. AB-1234.", "Seen from <deid>, serial <deid>."),
    ("Study 1.2.840.113619.2.55.3 compared.", "Study <deid> compared."),
    ("See acc# CXR-2019-000123, Acc. No. 55-1.", "See <deid>, <deid>."),
    ("MR# 60-12, med rec no. A7.", "<deid>, <deid>."),
    ("Discussed with Quux, MD, at 10:45; told Zebedee, R.N.", "Discussed with <deid>, MD, at 10:45; told <deid>, R.N."),
)


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_what_points_to_a_person_is_masked(text, expected):
    assert mask_text(text) == expected
    check_masked(mask_text(text))


@pytest.mark.parametrize(
    "text",
    [
        "A 1.5 cm nodule, 3/4 of the lung, L1-2, T12.",
        "A 2.3 cm nodule at T12, L1 and C7, 12/8 levels.",
        "Stable for 24 hours; film at 10:45, again at 0530 hours.",
        "Mass of 3.5-10 mm, 12 x 8 x 4 cm, 5-6 mm before.",
        "Fractures of ribs 5-7 and 10/11; T10-11-12 wedge.",
        "Follow-up in 3 to 6 months, since 2009 unchanged.",
        "An 89-year-old man with 90 pack years.",
        "The tube ends 4.5 cm above the carina at T4/5.",
        "Findings may 3 mm differ; sat. 95%.",
        "Right lung: clear. Dr was told.",
        "Read by the resident. Reviewed by the attending.",
        "CT 3/12 images on 3/4 of the chest.",
        "HEART: NORMAL. LUNGS: CLEAR. BONES: INTACT.",
        "Dr. was informed; the dr will call. Discussed with the ER dr.",
        "A 97 mm mass, stage 91, image 95; 1.2.3 levels; serial films, 12 in all.",
        "The 2nd rib may show it. 3 may differ.",
        "Seen on MR 3 days ago. The MD was called. Ribs 5.6.7 and acc 12 mm.",
        "Swan-Ganz catheter, Kerley B lines, Chilaiditi sign.",
    ],
)
def test_measures_levels_and_times_stay(text):
    assert mask_text(text) == text
    check_masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "Voraufnahme vom 3. März 2019.",
        "Comparaison du 12 mars 2019.",
        "Le 1er février.",
        "Del 5 de marzo de 2019.",
        "Do dia 5 de março de 2019.",
        "Del 5 maggio 2019.",
        "Opname van 5 mei 2019.",
        "5 Mayıs 2019 tarihli.",
        "От 12 марта 2019.",
        "Στις 3 Μαρτίου 2019.",
        "2019年3月12日の検査。",
        "2019년 3월 12일.",
    ],
)
def test_dates_in_the_languages_that_can_be_let_in(text):
    masked = mask_text(text)
    assert "<deid>" in masked
    assert not any(c.isdigit() for c in masked)


def test_names_in_a_script_without_spaces_are_masked_inside_a_text():
    assert (
        mask_text("山田太郎様の胸部。田中医師。", ["Tanaka=田中", "Yamada^Taro=山田^太郎"])
        == "<deid><deid>様の胸部。<deid>医師。"
    )


def test_a_short_part_of_a_name_beside_a_masked_one_is_masked():
    assert (
        mask_text("Li Quux seen, Quux Li told. Li base.", ["Quux^Li"])
        == "<deid> <deid> seen, <deid> <deid> told. Li base."
    )


def test_names_of_the_study_are_masked():
    text = "Discussed with Zebedee Quux; QUUX agreed. The patient is quuxotic."
    masked = mask_text(text, ["Quux^Zebedee", "Patient^Anonymous"])
    assert masked == "Discussed with <deid> <deid>; <deid> agreed. The patient is quuxotic."


@pytest.mark.parametrize("text", ["Date of birth: unclear, spring.", "DOB: first of May", "Next of kin: the sister"])
def test_a_field_with_a_value_left_is_refused(text):
    with pytest.raises(ReportError) as caught:
        check_masked(mask_text(text))
    assert caught.value.code == "PHI.LABELED"
    assert text not in str(caught.value)


def test_a_name_too_short_to_be_masked_is_refused_where_it_is_written_as_a_name():
    with pytest.raises(ReportError) as caught:
        check_masked("Findings were told to Bo Quux.", ["Quux^Bo"])
    assert caught.value.code == "PHI.NAME"
    check_masked("No effusion. No pneumothorax.", ["Quux^No"])
    check_masked("PA and lateral views.", ["Quux^Pa"])
