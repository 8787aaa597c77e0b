"""The films that a draft was made from, as they lie in the inbox at delivery."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from crrg.data.archives.givers import Givers, read_given
from crrg.data.dicom.structure import looks_like_dicom
from crrg.errors import Conflict, DataError, DigestMismatch
from crrg.ledger.inventory import InboxObject
from crrg.ledger.ledger import LedgerRow
from crrg.storage import Storage


def read_source(
    instance_id: str, row: LedgerRow | None, *, inbox: Storage, located: Mapping[str, InboxObject], givers: Givers
) -> bytes:
    """Return the bytes of a film's source as the night read them.

    Args:
        instance_id: Pseudonym of the film.
        row: What the night wrote of it; ``None`` where it wrote nothing.
        inbox: Where it lies.
        located: Objects of the inbox by the HMAC of their key.
        givers: What is known of who gives objects out.

    Raises:
        DataError: It is gone, was replaced, is not given out though others are, or is no DICOM file.
        StorageError: The inbox is out of reach, or gives nothing out.
    """
    found = located.get(row.key_hmac) if row else None
    if row is None or found is None:
        raise DataError(
            "the source is no longer in the inbox; put it back to deliver", instance_id, code="CHANGED.GONE"
        )
    try:
        read = partial(inbox.get_verified, found.key, row.source_digest.hex())
        data = read_given(read, found.key, inbox, givers, row.key_hmac)
    except DigestMismatch:
        raise DataError("the source was replaced since it was drafted", instance_id, code="CHANGED.REPLACED") from None
    except Conflict:
        raise DataError("the source is being replaced", instance_id, code="CHANGED.REPLACED") from None
    givers.note(found)
    if not looks_like_dicom(data):
        raise DataError("PNG and JPEG films belong to no study of an archive", instance_id, code="IDENTITY.NO_DICOM")
    return data
