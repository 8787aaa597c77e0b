from __future__ import annotations

import pytest

from crrg.data.archives.report_versions import settle_report

WHOLE = "FINDINGS: The lungs are clear.\nIMPRESSION: Normal.\nINDICATION: Cough."


def version(text: str, status: str = "", when: str = "") -> dict[str, str]:
    return {"report": text, "status": status, "report_time": when}


def test_a_whole_report_is_cut_into_its_sections():
    settled = settle_report([version(WHOLE)])
    assert settled.superseded == ()
    assert (settled.row["findings"], settled.row["impression"]) == ("The lungs are clear.", "Normal.")
    assert settled.row["indication"] == "Cough."
    assert settled.row["report"] is None


def test_sections_that_have_columns_are_not_read_out_of_a_whole_text():
    row = {"findings": "A nodule.", "report": WHOLE}
    assert settle_report([row]).row["findings"] == "A nodule."
    assert settle_report([row]).row["impression"] is None


def test_the_latest_final_version_and_the_addenda_since_count_in_time_order():
    rows = [
        version("ADDENDUM: CT advised.", "addendum", "2019-03-14T09:00"),
        version("FINDINGS: Old.", "final", "2019-03-12T08:00"),
        version("IMPRESSION: Corrected.", "corrected", "2019-03-13T08:00"),
        version("Left is right.", "addendum", "2019-03-13T09:00"),
        version("Of the old one.", "addendum", "2019-03-12T09:00"),
        version("IMPRESSION: Not yet read.", "preliminary", "2019-03-15T08:00"),
    ]
    settled = settle_report(rows)
    assert settled.row["impression"] == "Corrected. Left is right. CT advised."
    assert settled.row["findings"] is None
    assert settled.superseded == (1, 4, 5)


def test_a_preliminary_report_counts_while_there_is_no_other():
    settled = settle_report([version("FINDINGS: First.", "P", "1"), version("FINDINGS: Second.", "preliminary", "2")])
    assert settled.row["findings"] == "Second."
    assert settled.superseded == (0,)


@pytest.mark.parametrize("times", [("2", "10"), ("2019-03-12", "2019-03-12T00:01:00+00:00"), ("20190312", "20190313")])
def test_versions_are_numbers_or_times(times):
    later, earlier = version("FINDINGS: Late.", when=times[1]), version("FINDINGS: Early.", when=times[0])
    assert settle_report([later, earlier]).row["findings"] == "Late."


@pytest.mark.parametrize("when", ["", "3/12/2019", "soon"])
def test_without_readable_times_the_order_of_the_table_counts(when):
    settled = settle_report([version("FINDINGS: A.", when="2019-03-12"), version("FINDINGS: B.", when=when)])
    assert settled.row["findings"] == "B."


def test_after_a_withdrawal_nothing_earlier_counts():
    rows = [version("FINDINGS: A.", "final", "1"), version("", "entered-in-error", "2")]
    settled = settle_report(rows)
    assert (settled.row["findings"], settled.row["impression"]) == (None, None)
    assert settled.superseded == (0,)
    again = settle_report([*rows, version("FINDINGS: B.", "final", "3")])
    assert again.row["findings"] == "B."
    assert again.superseded == (0, 1)


def test_an_addendum_alone_is_an_impression():
    assert settle_report([version("ADDENDUM: A nodule.", "addendum")]).row["impression"] == "A nodule."


def test_a_text_that_is_too_long_is_a_problem():
    settled = settle_report([version("a " * 10_001)])
    assert settled.problem is not None
    assert settled.problem.code == "LIMIT.REPORT"
