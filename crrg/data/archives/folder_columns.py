"""The columns that tables of a folder may have, and what is told of those that nobody reads.

A misspelt column would lose every report of its table, so each table with such columns is told of. A column's own name
is never shown: in a table without a header line it may be a person's, also where it resembles a known one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from crrg.data.archives.region_boxes import BOX_COLUMNS, is_box_table
from crrg.data.archives.report_versions import ORDER_COLUMNS, SECTION_COLUMNS, STATUS_COLUMNS, WHOLE_TEXT_COLUMNS
from crrg.data.archives.tables import LABEL_NAMES

FILE_COLUMNS = ("file", "image", "path", "filename", "dicom_id")
PATIENT_COLUMNS = ("patient_id", "patientid", "subject_id")
STUDY_COLUMNS = {
    "study_instance_uid": "study", "studyinstanceuid": "study", "study_uid": "study", "study_id": "study",
    "accession_number": "accession", "accessionnumber": "accession", "accession": "accession",
}  # fmt: skip
"""Columns that name a study, and what kind of name it is; a ``study_id`` may be that of a table or a DICOM UID."""
VIEW_COLUMNS = ("view_position", "view")
SEX_COLUMNS = ("sex", "patient_sex")
AGE_COLUMNS = ("age", "patient_age")
_WHICH_COUNTS = frozenset((*STATUS_COLUMNS, *ORDER_COLUMNS))
_READ = frozenset(
    (
        *FILE_COLUMNS, *PATIENT_COLUMNS, *STUDY_COLUMNS, *SECTION_COLUMNS, *WHOLE_TEXT_COLUMNS, *_WHICH_COUNTS,
        *VIEW_COLUMNS, *SEX_COLUMNS, *AGE_COLUMNS, *LABEL_NAMES, "case_group", "clinical_notes",
    )
)  # fmt: skip
_READ_OF_BOXES = frozenset((*FILE_COLUMNS, *BOX_COLUMNS, "label", "source"))
_RESEMBLES = 0.8
"""Share of letters, 0..1, that a misspelt name has in common with the right one."""


def plain_column(name: str) -> str:
    """Return a column's name as it is compared: in lower case, with underscores."""
    return name.strip().lower().replace(" ", "_")


def says_something(columns: Collection[str], of: Iterable[str]) -> bool:
    """Return whether a table says anything that is read of what it names.

    Args:
        columns: Its columns, as they are compared.
        of: Columns that name what it is about.
    """
    return not _READ.isdisjoint(set(columns) - set(of) - _WHICH_COUNTS)


def unread_columns(columns: Iterable[str]) -> str:
    """Return which columns of a table are not read, and what they may have been meant to be; empty where all are."""
    places = {plain_column(name): place for place, name in enumerate(columns, start=1)}
    read = _READ_OF_BOXES if is_box_table(dict.fromkeys(places)) else _READ
    left = [name for name in places if name and name not in read]
    if not left:
        return ""
    missing = sorted(read - places.keys())
    near = ((places[name], get_close_matches(name, missing, n=1, cutoff=_RESEMBLES)) for name in left)
    told = ", ".join(f"column {place} resembles `{close[0]}`" for place, close in near if close)
    number = f"{len(left)} {'column is' if len(left) == 1 else 'columns are'} not read"
    return f"{number}{told and f': {told}'}; docs/sources.md lists those that are read"
