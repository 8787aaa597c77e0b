from __future__ import annotations

import pytest

from crrg.data.decoding.limits import InputLimits
from crrg.data.reports.sections import clean_text, parse_sections, split_sentences
from crrg.domain.report import Report
from crrg.errors import ReportError


def test_the_usual_headers() -> None:
    text = "INDICATION: Cough.\n\nCOMPARISON: None.\n\nFINDINGS:\nLungs are\nclear.\n\nIMPRESSION: Normal chest."
    assert parse_sections(text) == Report("Lungs are clear.", "Normal chest.", "Cough.")


def test_headers_in_lower_case_and_in_one_line() -> None:
    assert parse_sections("Findings: Clear lungs.\nImpression: Normal.") == Report("Clear lungs.", "Normal.")
    assert parse_sections("HISTORY: Pain. FINDINGS: Clear. IMPRESSION: Normal.") == Report("Clear.", "Normal.", "Pain.")


def test_text_without_header_is_findings() -> None:
    assert parse_sections("The lungs are clear. Heart: normal.") == Report("The lungs are clear. Heart: normal.")


def test_text_before_the_first_header_is_findings_if_none_follow() -> None:
    text = "The lungs are clear. The heart is normal.\nIMPRESSION: Normal chest."
    assert parse_sections(text) == Report("The lungs are clear. The heart is normal.", "Normal chest.")


def test_the_last_findings_count_and_views_begin_findings() -> None:
    assert parse_sections("FINDINGS: First.\nFINDINGS: Second.").findings == "Second."
    assert parse_sections("CHEST, TWO VIEWS: Clear lungs.").findings == "Clear lungs."
    assert parse_sections("FINDINGS/IMPRESSION: Clear lungs.") == Report(None, "Clear lungs.")


def test_an_addendum_is_added_to_the_impression() -> None:
    text = "IMPRESSION: Normal.\nADDENDUM: Small nodule on review."
    assert parse_sections(text).impression == "Normal. Small nodule on review."


def test_comparison_and_signature_belong_to_no_section() -> None:
    report = parse_sections("FINDINGS: Clear.\nRECOMMENDATION: CT.\nDICTATED BY: ___")
    assert report == Report("Clear.")


@pytest.mark.parametrize("text", ["", "  \n ", "FINDINGS:\nIMPRESSION: ."])
def test_nothing_gives_nothing(text: str) -> None:
    report = parse_sections(text)
    assert report == Report() or report.text == ""


@pytest.mark.parametrize("placeholder", ["XXXX", "___", "[**2020-1-1**]", "<DATE>", "xxxx"])
def test_placeholders_become_one(placeholder: str) -> None:
    assert clean_text(f"Compared to {placeholder} unchanged.") == "Compared to <deid> unchanged."


def test_control_and_direction_characters_go() -> None:
    assert clean_text("a\u202eb\x00c\x1b[0m\r\nd\te\u0301") == "abc[0m\nd \u00e9"


def test_too_long_a_text_is_refused() -> None:
    with pytest.raises(ReportError) as caught:
        clean_text("a" * (InputLimits.max_report_characters + 1))
    assert caught.value.code == "LIMIT.REPORT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lungs clear. Heart normal.", ["Lungs clear.", "Heart normal."]),
        ("A 1.5 cm nodule. Stable.", ["A 1.5 cm nodule.", "Stable."]),
        ("Seen by Dr. Smith vs. before. Done.", ["Seen by Dr. Smith vs. before.", "Done."]),
        ("1. Effusion. 2. Edema.", ["Effusion.", "Edema."]),
        ("- Effusion\n- Edema", ["Effusion", "Edema"]),
        ("Lungs clear.Heart normal", ["Lungs clear.", "Heart normal"]),
        ("Lungs\nare clear. heart normal..", ["Lungs are clear.", "heart normal.."]),
        ("It measures 2.3 cm. in diameter. Stable.", ["It measures 2.3 cm. in diameter.", "Stable."]),
        ("It measures 2.3 cm. Stable.", ["It measures 2.3 cm.", "Stable."]),
        ("The base ... is clear. Stable...", ["The base ... is clear.", "Stable..."]),
        ("Edema; no effusion. Stable.", ["Edema; no effusion.", "Stable."]),
        ("Read at 5 p.m. by Dr. Quux. Stable!", ["Read at 5 p.m. by Dr. Quux.", "Stable!"]),
        ("1) Edema.\n2) Effusion, e.g. on the left.", ["Edema.", "Effusion, e.g. on the left."]),
        ("...", []),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected
