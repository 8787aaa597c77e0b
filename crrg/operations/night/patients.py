"""Whose a study is: films of different patients never share a draft, though headers may name one study for both.

The patient of an earlier night's films keeps a study, else that of the first film in order of rank. Where all films of
an earlier draft come again in a way that replaces it (a corrected header, or a reading that was asked for), the study
is open anew.
"""

from __future__ import annotations

from collections.abc import Set

from crrg.ledger.ledger import Ledger, LedgerRow
from crrg.operations.night.records import InputOutcome

CONFLICT_OF_STUDY = (
    "IDENTITY.CONFLICT",
    "its study was drafted for another patient; correct the header and send it again",
)
CONFLICT_OF_IMAGE = (
    "IDENTITY.CONFLICT",
    "the same image came for another patient before; correct the header and send it again, or, where this one is "
    "right, read its study again with resend_policy = supersede",
)
SEVERAL = ""
"""In place of a patient where a study was drafted for several: nobody may add to it."""


class StudyPatients:
    """Remembers whose each study is."""

    def __init__(self, ledger: Ledger, replaced: Set[str]) -> None:
        """Begin with what earlier nights drafted.

        Args:
            ledger: Earlier nights.
            replaced: Images whose earlier draft this night may replace.
        """
        self._ledger = ledger
        self._replaced = replaced
        self._patients: dict[str, str] = {}

    def may_have(self, image: InputOutcome) -> bool:
        """Return whether an image's study is its patient's, or nobody's yet."""
        return self._patient(image.study_id) in (None, image.patient_id)

    def keep(self, image: InputOutcome) -> None:
        """Remember a study as that of a drafted image's patient."""
        self._patients.setdefault(image.study_id, image.patient_id)

    def _patient(self, study_id: str) -> str | None:
        if study_id not in self._patients:
            rows = (row for row in self._ledger.find_drafts_of(study_id) if row.instance_id not in self._replaced)
            staying = {row.patient_id for row in rows if self._is_current(row)}
            if not staying:
                return None
            self._patients[study_id] = staying.pop() if len(staying) == 1 else SEVERAL
        return self._patients[study_id]

    def _is_current(self, row: LedgerRow) -> bool:
        """Whether a draft is its image's last one, and its object was not refused for its patient since."""
        last = self._ledger.find(row.key_hmac, row.etag)
        was_refused = last is not None and last.reason == CONFLICT_OF_STUDY[0]
        return self._ledger.find_draft(row.instance_id) is row and not was_refused
