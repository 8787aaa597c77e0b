"""A draft on its way to a hospital's systems: the study document together with the source it is about.

What every delivered form shares lies here: which draft it is, when it was committed, and identifiers that are the same
whenever the same draft is delivered again, so that a second delivery replaces the first. They are made from the
source's own UIDs and from what the draft says, never from pseudonyms: another secret (``crrg rekey``) changes none of
them. Lives in memory only.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Any

from crrg.exports.documents import film_model, film_models
from crrg.exports.originals import OriginalFilm
from crrg.storage import hash_json

DEVICE_NAME = "CRRG-CLIP draft report pipeline"
BANNER = "DRAFT - NOT REVIEWED BY A RADIOLOGIST"
NUMBERED_FROM = datetime(2020, 1, 1, tzinfo=UTC)
"""Seconds since then fit into DICOM's whole numbers until 2088."""


@dataclass(frozen=True)
class Delivery:
    """One study's current draft and the source films it was made from.

    Attributes:
        document: The study document (``documents.py``), pseudonymous.
        originals: Source headers by ``instance_id``; never shown.
        committed: When the night was committed, with time zone.
        replaced: By form, the newest older draft of the study that was delivered in it.
        zone: In which DICOM documents tell times where their source does not say its own.
    """

    document: Mapping[str, Any]
    originals: Mapping[str, OriginalFilm] = field(repr=False)
    committed: datetime
    replaced: Mapping[str, Delivery] = field(default_factory=dict, repr=False)
    zone: tzinfo = UTC

    @property
    def primary(self) -> OriginalFilm:
        """Source of the film that stands for the study."""
        return self.originals[next(film["instance_id"] for film in self.document["films"] if film["is_primary"])]

    @cached_property
    def films(self) -> list[Mapping[str, Any]]:
        """Films of the document, the primary one first, the others in the order of their sources' UIDs."""
        films: list[Mapping[str, Any]] = list(self.document["films"])
        return sorted(films, key=lambda film: (not film["is_primary"], self.instance_uid(film["instance_id"])))

    @property
    def number(self) -> int:
        """A number that is higher the later the draft was committed: by it the newest of a series is told."""
        return max(1, int((self.committed - NUMBERED_FROM).total_seconds()))

    def moment(self, original: OriginalFilm) -> datetime:
        """Return when the draft was committed, in the zone in which a source tells its times."""
        return self.committed.astimezone(original.zone or self.zone)

    def models(self, film: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
        """Return the bundles that drafted a film, or all films with the primary one's first.

        Returns:
            Id and, as people know it, version of each; the id again where it is unregistered.
        """
        drafted = film_models(self.document) if film is None else [film_model(self.document, film)]
        return [(bundle_id, version or bundle_id) for bundle_id, version in drafted]

    def versions(self, film: Mapping[str, Any] | None = None) -> list[str]:
        """Return the versions of ``models``."""
        return [version for _, version in self.models(film)]

    @cached_property
    def named_document(self) -> dict[str, Any]:
        """The study document under the source's own UIDs instead of pseudonyms; for the identified zone only."""
        films = [{**film, "instance_id": self.instance_uid(film["instance_id"])} for film in self.films]
        return {**self.document, "study_id": self.primary.study_uid, "films": films}

    def instance_uid(self, instance_id: str) -> str:
        """Return the SOPInstanceUID of the source of a film."""
        return str(self.originals[instance_id].header.SOPInstanceUID)

    def uid(self, form: str, part: str = "", *, instance_id: str = "") -> str:
        """Return the UID of one form of this draft: the same for the same draft, another for any other.

        Args:
            form: Which document.
            part: Which object within it.
            instance_id: Film that it is about, by pseudonym; empty where it is about the study.

        Source: DICOM PS3.5 annex B.2 (UIDs from UUIDs).
        """
        film = self.instance_uid(instance_id) if instance_id else ""
        return self._uid(self._digest, form, part, film)

    def series_uid(self, form: str) -> str:
        """Return the UID of the series that holds every version of one form of this study's drafts."""
        return self._uid("series", form)

    def resource_id(self, kind: str, part: str = "") -> str:
        """Return a FHIR id, stable like ``uid``: its number as a UUID, since servers keep ids of digits for themselves.

        Source: https://github.com/hapifhir/hapi-fhir/issues/333.
        """
        return str(uuid.UUID(int=int(self.uid(f"fhir-{kind}", part).removeprefix("2.25."))))

    @cached_property
    def _digest(self) -> str:
        """What the draft says, whatever the order in which pseudonyms put its films."""
        films = sorted(self.named_document["films"], key=lambda film: str(film["instance_id"]))
        return hash_json({**self.named_document, "films": films}, length=64)

    def _uid(self, *parts: str) -> str:
        name = "\n".join(("crrg-clip", self.primary.study_uid, *parts))
        return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"
