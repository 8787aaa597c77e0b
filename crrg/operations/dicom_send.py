"""Sending DICOM objects to an archive by C-STORE over one association.

Knows no draft: it takes objects and says of each whether the archive took it. Addresses are settings; the network
between here and the archive is the hospital's own, DICOM's TLS profile is not spoken (put a tunnel in front of it).

Source: DICOM PS3.4 annex B, PS3.7 section 9.1.1.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crrg.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from pydicom import Dataset

TIMEOUT_S = 30.0
_SUCCESS = 0x0000
_WARNINGS = (0xB000, 0xB006, 0xB007)
"""The archive kept the object and changed or did not use an element."""


@dataclass(frozen=True)
class Archive:
    """An archive's DICOM address.

    Attributes:
        host: Name or address.
        port: TCP port.
        called: Its application entity title.
        calling: Ours.
    """

    host: str
    port: int
    called: str
    calling: str

    @classmethod
    def parse(cls, address: str, called: str, calling: str) -> Archive:
        """Return an archive from ``host:port``.

        Raises:
            ConfigError: It is not of that form.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError("write the archive as host:port", "send_to")
        return cls(host, int(port), called, calling)


def send_objects(objects: Sequence[Dataset], archive: Archive) -> None:
    """Store objects in an archive; all of them, or an error.

    Args:
        objects: DICOM objects with their file meta information.
        archive: Where to.

    Raises:
        StorageError: The archive cannot be reached (retryable), rejects the association or an object.
    """
    from pynetdicom import AE

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    entity = AE(ae_title=archive.calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
    entity.connection_timeout = TIMEOUT_S
    for sop_class, syntax in sorted(_contexts(objects)):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(archive.host, archive.port, ae_title=archive.called)
    if not association.is_established:
        is_rejected = association.is_rejected
        what = "rejects the association; check both titles" if is_rejected else "cannot be reached"
        raise StorageError(f"the archive {what}", archive.called, retryable=not is_rejected)
    try:
        for each in objects:
            status = association.send_c_store(each).get("Status") if association.is_established else None
            if status is None:
                raise StorageError("the archive broke off; send again", archive.called, retryable=True)
            if status != _SUCCESS and status not in _WARNINGS:
                raise StorageError(f"the archive refused an object with status 0x{status:04X}", archive.called)
    finally:
        association.release()


def _contexts(objects: Iterable[Dataset]) -> set[tuple[str, str]]:
    return {(str(each.SOPClassUID), str(each.file_meta.TransferSyntaxUID)) for each in objects}
