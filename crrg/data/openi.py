"""The Open-i reports (Indiana University chest X-ray collection) as an archive: text only, one row per study.

Obtain: ``reports.csv`` (or ``reports.parquet``) with the columns ``uid``, ``indication``, ``findings``, ``impression``,
``mesh_major`` and, where known, ``r2gen_split``. The films themselves are another download; a folder of them with a
report table is read by ``folder``.

Source: Demner-Fushman et al., JAMIA 2016;23(2):304-310; the split is R2Gen's (Chen et al., EMNLP 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

from crrg.data.sources import SourceItem
from crrg.data.tables import Row, read_rows, text_of
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split
from crrg.errors import ReportError
from crrg.storage import Storage, StoredObject

TABLE_KEYS = ("reports.parquet", "reports.csv")
_REQUIRED = ("uid", "findings", "impression", "mesh_major")
_SPLITS = {"train": Split.TRAIN, "val": Split.VALIDATION, "test": Split.TEST}


class OpeniSource:
    """Reports of the collection, one study per patient."""

    kind = SourceKind.OPENI
    site = "openi"

    def __init__(self, storage: Storage) -> None:
        """Open the folder that holds the table."""
        self.storage = storage

    @staticmethod
    def recognises(storage: Storage, names: list[str]) -> bool:
        """Return whether the collection's table lies there."""
        tables = [name for name in TABLE_KEYS if name in names]
        return bool(tables) and _has_columns(read_rows(storage, tables[0]))

    def inventory(self) -> list[StoredObject]:
        """Return the table; Parquet before CSV, since both hold the same."""
        tables = [stored for stored in self.storage.list_objects() if stored.key in TABLE_KEYS]
        return sorted(tables, key=lambda stored: TABLE_KEYS.index(stored.key))[:1]

    def items(self) -> Iterator[SourceItem]:
        """Yield one text-only item per study."""
        for table in self.inventory():
            for index, row in enumerate(read_rows(self.storage, table.key)):
                yield _item(index, row)


def _has_columns(rows: list[Row]) -> bool:
    return bool(rows) and all(name in rows[0] for name in _REQUIRED)


def _item(index: int, row: Row) -> SourceItem:
    uid = text_of(row, "uid")
    report = Report(
        findings=text_of(row, "findings") or None,
        impression=text_of(row, "impression") or None,
        indication=text_of(row, "indication") or None,
    )
    return SourceItem(
        name=f"row {index}",
        patient_id=uid,
        study_id=uid,
        report=report,
        split=_SPLITS.get(text_of(row, "r2gen_split")),
        problem=None if report.text else ReportError("neither findings nor impression", code="REPORT.EMPTY"),
    )
