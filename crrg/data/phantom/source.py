"""A drawn cohort as an archive: films, reports, and the exact truth about each film.

Reads the layout that ``cohort`` writes. Boxes, phrases and labels come from ``truth.parquet``, one object instead of a
scene graph per film; both hold the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from crrg.data.archives.sources import SourceItem
from crrg.data.archives.tables import labels_of, read_rows, text_of
from crrg.data.parquet import open_parquet
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import RegionAnnotation, RegionSource
from crrg.errors import DataError, DicomError
from crrg.storage import Storage, StoredObject

REPORTS_KEY = "reports.csv"
TRUTH_KEY = "truth.parquet"
FILMS_PREFIX = "dicom/"
_ROWS_AT_ONCE = 256


class PhantomSource:
    """Drawn films with their reports, boxes and labels."""

    kind = SourceKind.PHANTOM
    looked_for = "reports.csv and truth.parquet, as `crrg phantom` writes them"
    site = "phantom"

    def __init__(self, storage: Storage) -> None:
        """Open the root that ``crrg phantom`` wrote to."""
        self.storage = storage

    @staticmethod
    def recognises(_storage: Storage, names: list[str]) -> bool:
        """Return whether a drawn cohort lies there."""
        return {REPORTS_KEY, TRUTH_KEY} <= set(names)

    def inventory(self) -> list[StoredObject]:
        """Return films and tables; scene graphs say nothing that the truth does not."""
        return [
            stored
            for stored in self.storage.list_objects()
            if stored.key in (REPORTS_KEY, TRUTH_KEY) or stored.key.startswith(FILMS_PREFIX)
        ]

    def items(self) -> Iterator[SourceItem]:
        """Yield every film in the order of the truth, then films that the truth does not know."""
        films = {stored.key: stored for stored in self.inventory()}
        if films.pop(REPORTS_KEY, None) is None or films.pop(TRUTH_KEY, None) is None:
            return  # no drawn cohort
        reports = {text_of(row, "instance_id"): row for row in read_rows(self.storage, REPORTS_KEY)}
        for row in self._truth():
            film = films.pop(row["file"], None)
            if film is None:
                problem = DicomError("the truth names a film that is not there", code="NO_PIXELS.NO_FILE")
                yield SourceItem(name=row["file"], problem=problem)
            else:
                yield _item(film, row, reports.get(row["instance_id"], {}))
        for film in films.values():
            yield SourceItem(name=film.key, film=film)

    def _truth(self) -> Iterator[dict[str, Any]]:
        try:
            file = open_parquet(self.storage.get(TRUTH_KEY))
        except (ValueError, OSError) as error:
            raise DataError(f"the table cannot be read ({type(error).__name__})", code="PARSE.TABLE") from error
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, use_threads=False):
            yield from batch.to_pylist()


def _item(film: StoredObject, row: Mapping[str, Any], report: Mapping[str, Any]) -> SourceItem:
    return SourceItem(
        name=film.key,
        film=film,
        patient_id=row["patient_id"],
        study_id=row["study_id"],
        report=Report(
            findings=text_of(report, "findings") or None,
            impression=text_of(report, "impression") or None,
            indication=text_of(report, "indication") or None,
        ),
        regions=tuple(
            RegionAnnotation(
                region=entry["region"],
                box_xyxy=tuple(entry["box_xyxy"]),
                phrase=entry["phrase"],
                is_abnormal=entry["is_abnormal"],
                source=RegionSource.SCENE_GRAPH,
            )
            for entry in row["regions"]
        ),
        labels=labels_of(row),
        label_source="drawn",
    )
