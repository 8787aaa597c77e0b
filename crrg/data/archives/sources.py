"""What every archive looks like to ingest: a stream of items, each a film, a report, or both.

An archive is one file in this room and one entry in ``SourceKind``; ``source_kinds`` finds and opens it. Items carry
the source's own identifiers, which end at pseudonymisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from crrg.data.reports.sections import Mode
from crrg.domain.acquisition import UNKNOWN, Acquisition
from crrg.domain.labels import LabelValues
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import RegionAnnotation, Split, ViewPosition
from crrg.errors import DataError
from crrg.storage import Storage, StoredObject


@dataclass(frozen=True)
class SourceItem:
    """One input: an image object with what the archive says of it, or a report without a film.

    Attributes:
        name: The source's own name of it: a store key where there is a film; only its HMAC is ever kept.
        film: The image object, or ``None`` in a text-only item.
        sha256: Digest of the film's bytes that the archive publishes, hex; empty where it publishes none.
        patient_id: Source's identifier of the person; empty to take DICOM's.
        study_id: Source's identifier of the examination; empty to take DICOM's.
        group: Patients with equal groups stay in one split; empty = the patient alone.
        instance_id: Source's identifier of the image object. Where it is given, all three identifiers of the archive
            count, also for DICOM files; empty to take DICOM's, or the content's.
        report: What the archive has as a report.
        notes: Case text that is no report; only sentences that speak of the picture may be used.
        regions: Annotated regions, boxes in original pixels.
        boxes_size: Width and height in pixels of the film that the boxes were measured on, where the film here may be
            a smaller copy of it; ``None`` where it is this film.
        boxes_may_exceed: Whether boxes may reach beyond the film: they are cut at its border, and left out where
            nothing of them remains. Otherwise such a box refuses the film.
        labels: Labels that the archive brings; empty where they come from the report.
        label_source: How those labels were made; empty where there are none.
        view_position: What the archive says; ``None`` to take the file's.
        acquisition: What the archive's tables say of sex and age; what they leave open is taken from the file.
        split: The archive's published split, or ``None``.
        problem: Why it cannot be used, found before any decoding; ``None`` if nothing is wrong.
    """

    name: str = field(repr=False)
    film: StoredObject | None = field(default=None, repr=False)
    sha256: str = ""
    patient_id: str = field(default="", repr=False)
    study_id: str = field(default="", repr=False)
    group: str = field(default="", repr=False)
    instance_id: str = field(default="", repr=False)
    report: Report = field(default=Report(), repr=False)
    notes: str = field(default="", repr=False)
    regions: tuple[RegionAnnotation, ...] = ()
    boxes_size: tuple[int, int] | None = None
    boxes_may_exceed: bool = False
    labels: LabelValues = field(default_factory=dict)
    label_source: str = ""
    view_position: ViewPosition | None = None
    acquisition: Acquisition = UNKNOWN
    split: Split | None = None
    problem: DataError | None = None


class Source(Protocol):
    """An archive that can be ingested."""

    @property
    def kind(self) -> SourceKind:
        """What kind of archive it is."""

    @property
    def storage(self) -> Storage:
        """Where its objects lie; only read."""

    @property
    def site(self) -> str:
        """Where identifiers of its tables are valid; a part of their pseudonyms."""

    def inventory(self) -> list[StoredObject]:
        """Return the objects whose change makes another dataset: films and tables."""

    def items(self) -> Iterator[SourceItem]:
        """Yield every input once, in an order that depends on their names alone."""


@runtime_checkable
class CutsReports(Protocol):
    """An archive of whole reports, which can be cut into sections in more than one way."""

    section_mode: Mode


class SourceOpener(Protocol):
    """What a kind of archive is known by: a class whose instances are ``Source``."""

    @property
    def kind(self) -> SourceKind:
        """What kind of archive it reads."""

    @property
    def looked_for(self) -> str:
        """Which files such an archive has, for people."""

    def __call__(self, storage: Storage) -> Source:
        """Open the archive at a root."""

    def recognises(self, storage: Storage, names: list[str], /) -> bool:
        """Return whether a root is an archive of this kind.

        Args:
            storage: The root; a table's header or a folder's names may be looked at, never the whole listing.
            names: Names directly under the root, of objects and of folders, sorted.
        """
