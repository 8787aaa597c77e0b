"""Which of several rows of a table is a film's or a study's report: the latest final one, and the addenda since.

Information systems export a row for every version of a report. Earlier versions do not vanish: each is named as an
input that does not count (``folder``), and an earlier version of the dataset keeps the text that counted then. Knows
columns, not films.

Source: HL7 v2 table 0085 and FHIR R4 DiagnosticReport.status for the words of a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from crrg.data.archives.tables import Row, text_of
from crrg.data.reports.sections import Mode, parse_sections
from crrg.domain.report import Report
from crrg.errors import DataError

WHOLE_TEXT_COLUMNS = ("report", "report_text", "text")
"""Columns that hold a report that is not cut into sections yet."""
SECTION_COLUMNS = ("findings", "impression", "indication")
TEXT_COLUMNS = (*WHOLE_TEXT_COLUMNS, "findings", "impression")
STATUS_COLUMNS = ("report_status", "result_status", "status")
ORDER_COLUMNS = ("version", "report_version", "report_datetime", "report_time", "report_date", "datetime", "timestamp")
_ADDENDUM = frozenset({"addendum", "addended", "appended"})
_PRELIMINARY = frozenset({"p", "preliminary", "prelim", "draft", "partial", "registered", "unverified", "r", "s", "i"})
_WITHDRAWN = frozenset(
    {"x", "d", "w", "cancelled", "canceled", "deleted", "entered-in-error", "entered in error", "withdrawn"}
)


@dataclass(frozen=True)
class SettledReport:
    """What several rows about one film or study come to.

    Attributes:
        row: The row that counts, with the report cut into the columns of its sections.
        superseded: Numbers, within what was given, of rows whose text no longer counts.
        problem: Why the text cannot be read; ``None`` if nothing is wrong.
    """

    row: Row = field(repr=False)
    superseded: tuple[int, ...] = ()
    problem: DataError | None = None


def settle_report(rows: Sequence[Row], mode: Mode = "general") -> SettledReport:
    """Join the versions of a report.

    In time order, by the first column of versions or times that all rows fill and that can be read, else in the order
    of the table. The latest row that is neither preliminary nor withdrawn counts, a preliminary one only where there is
    no other; addenda since are added to its impression. After a withdrawal nothing earlier counts. A status that is not
    known counts as final.

    Args:
        rows: At least one.
        mode: How whole reports are cut.
    """
    order = _in_time(rows)
    statuses = [text_of(rows[number], *STATUS_COLUMNS).lower() for number in order]
    since = max((place + 1 for place, status in enumerate(statuses) if status in _WITHDRAWN), default=0)
    valid = list(zip(order[since:], statuses[since:], strict=True))
    reports = [number for number, status in valid if status not in _ADDENDUM]
    final = [number for number, status in valid if status not in _ADDENDUM | _PRELIMINARY]
    places = {number: place for place, number in enumerate(order)}
    chosen = (final or reports)[-1:]
    earliest = places[chosen[0]] if chosen else -1
    addenda = [number for number, status in valid if status in _ADDENDUM and places[number] > earliest]
    # a report that was withdrawn as the last thing is no version that another one replaces
    counting = [*chosen, *addenda] or order[-1:]
    superseded = tuple(number for number in range(len(rows)) if number not in counting)
    row = dict(rows[counting[0]]) | {name: None for name in WHOLE_TEXT_COLUMNS if name in rows[counting[0]]}
    try:
        report = _cut(rows[chosen[0]], mode) if chosen else Report()
        added = [_cut(rows[number], mode).text for number in addenda]
    except DataError as error:
        return SettledReport(row, superseded, error)
    impression = " ".join(filter(None, [report.impression, *added])) or None
    row |= {"findings": report.findings, "impression": impression, "indication": report.indication}
    return SettledReport(row, superseded)


def _cut(row: Row, mode: Mode) -> Report:
    """Return a row's sections; what its whole text says where a section has no column of its own."""
    findings, impression, indication = (text_of(row, name) or None for name in SECTION_COLUMNS)
    whole = text_of(row, *WHOLE_TEXT_COLUMNS)
    if not whole or findings or impression:
        return Report(findings, impression, indication)
    cut = parse_sections(whole, mode)
    return Report(cut.findings, cut.impression, indication or cut.indication)


def _in_time(rows: Sequence[Row]) -> list[int]:
    """Return the numbers of the rows, the oldest first."""
    if len(rows) > 1:
        for name in ORDER_COLUMNS:
            times = [_time(text_of(row, name)) for row in rows]
            known = [time for time in times if time is not None]
            if len(known) == len(rows):
                return sorted(range(len(rows)), key=lambda number: (known[number], number))
    return list(range(len(rows)))


def _time(text: str) -> float | None:
    """Return a number for a version or a time, larger for a later one; ``None`` where it is neither."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
