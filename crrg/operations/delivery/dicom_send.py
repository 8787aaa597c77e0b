"""Sending DICOM objects to an archive: by C-STORE over one association, with or without TLS, or by STOW-RS.

Knows no draft: it takes objects and says whether the archive took all of them. An address says which way is meant:
``host:port`` and ``dicoms://host:port`` are C-STORE, ``https://…`` is the root of a DICOMweb service. Certificates are
always verified. What the web client logs names studies, hence it is silenced.

Source: DICOM PS3.4 annex B, PS3.5 section 10.1, PS3.7 section 9.1.1 and annex C, PS3.15 annex B.1, PS3.18 section 10.5.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from pydantic import SecretStr

from crrg.config.base import Settings
from crrg.errors import ConfigError, StorageError
from crrg.operations.delivery.allowed import is_loopback
from crrg.operations.extras import check_installed

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext
    from requests import Response

TIMEOUT_S = 30.0
_SUCCESS = 0x0000
_WARNINGS = (0xB000, 0xB006, 0xB007)
"""The archive kept the object and changed or did not use an element."""
_HELD_BEFORE = 0x0111
"""The archive holds an object of that UID and keeps it: the same draft, maybe of a header corrected since."""
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_NOT_FOR_US = (0x0122, 0x0124)
"""The archive takes no such objects, or none from us: the next study would fare no better."""
_CONFLICT = 409
_REFUSING_ANSWERS = (400, _CONFLICT, 413, 422)
"""Answers of a web service that are about the objects sent, not about whoever sends them."""
REFUSED = "ARCHIVE.REFUSED"
"""Code of an error that is about the objects of one study: others may be taken."""
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError, ParseError)
"""What the client raises where an answer is not of the standard's form."""
_OVER_TLS = "dicoms://"
_WAY_OUT = "see the archive's log, then deliver again"
_REACH = "check the address (--send-to) and whether the archive listens there, then deliver again"


@dataclass(frozen=True)
class Archive:
    """An archive's DICOM address.

    Attributes:
        host: Name or address.
        port: TCP port.
        called: Its application entity title.
        calling: Ours.
        tls: How to check and encrypt the connection; ``None`` for none.
    """

    host: str
    port: int
    called: str
    calling: str
    tls: ssl.SSLContext | None = None

    @classmethod
    def parse(cls, address: str, called: str, calling: str, tls: ssl.SSLContext | None = None) -> Archive:
        """Return an archive from ``host:port``.

        Raises:
            ConfigError: It is not of that form.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError("write the archive as host:port, dicoms://host:port or https://host/root", "send_to")
        return cls(host, int(port), called, calling, tls)


@dataclass(frozen=True)
class WebArchive:
    """The root of an archive's DICOMweb service.

    Attributes:
        url: Its address.
        authorization: Value of the header of that name; empty for none.
        ca_file: Certificates to trust; ``None`` for those of this machine.
        cert_file: Our own certificate with its key; ``None`` for none.
    """

    url: str
    authorization: SecretStr = field(default=SecretStr(""))
    ca_file: Path | None = None
    cert_file: Path | None = None


def find_archive(address: str, called: str, calling: str, settings: Settings) -> Archive | WebArchive:
    """Return the archive that an address means.

    Args:
        address: ``host:port``, ``dicoms://host:port``, ``https://host/root``, or ``http://`` where nothing is secret.
        called: The archive's application entity title; not used by STOW-RS.
        calling: Ours.
        settings: Certificates and the authorization; an address is a parameter, which people see.

    Raises:
        ConfigError: The address is of no such form, holds a password, or would carry an authorization in the clear; a
            certificate file cannot be read; or what sends there is not installed.
    """
    is_web = address.startswith(("http://", "https://"))
    check_installed("dicomweb_client" if is_web else "pynetdicom", "dicom", "send_to")
    # for https too: what sends there would read the files only after the delivery is noted
    tls = _tls_context(settings) if address.startswith((_OVER_TLS, "https://")) else None
    if not is_web:
        return Archive.parse(address.removeprefix(_OVER_TLS), called, calling, tls)
    parts = urlsplit(address)
    if parts.username or parts.password or not parts.hostname:
        raise ConfigError("an address must not contain a password; set CRRG_ARCHIVE_AUTHORIZATION", "send_to")
    has_secret = bool(settings.archive_authorization.get_secret_value())
    if has_secret and parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError("an authorization is sent over https only; write https://", "send_to")
    return WebArchive(
        address.rstrip("/"), settings.archive_authorization, settings.archive_ca_file, settings.archive_cert_file
    )


def send_objects(objects: Sequence[Dataset], archive: Archive | WebArchive, *, may_be_held: bool = False) -> int:
    """Store objects in an archive; all of them, or an error.

    Args:
        objects: DICOM objects with their file meta information.
        archive: Where to.
        may_be_held: Whether what the archive holds under a UID already is the same, hence counts as stored.

    Returns:
        How many it stored; the rest it held.

    Raises:
        StorageError: The archive cannot be reached (retryable), rejects the connection, or, with the code
            ``ARCHIVE.REFUSED``, an object, or its answer cannot be read; other objects may be stored.
    """
    num_held = _post(objects, archive) if isinstance(archive, WebArchive) else _store(objects, archive)
    if num_held and not may_be_held:
        name = archive.called if isinstance(archive, Archive) else urlsplit(archive.url).hostname or ""
        how_many = f"{num_held} of {len(objects)} objects"
        reason = f"the archive holds an earlier version of {how_many} and keeps it; delete it there, then deliver again"
        raise StorageError(reason, name, code=REFUSED)
    return len(objects) - num_held


def _store(objects: Sequence[Dataset], archive: Archive) -> int:
    """Send by C-STORE; return how many objects the archive held before."""
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    from pynetdicom import AE

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    entity = AE(ae_title=archive.calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
    entity.connection_timeout = TIMEOUT_S
    for sop_class in _classes(objects):
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    tls = (archive.tls, archive.host) if archive.tls else None
    association = entity.associate(archive.host, archive.port, ae_title=archive.called, tls_args=tls)
    try:
        if association.is_established or association.rejected_contexts:
            _check_accepted(objects, association.accepted_contexts, archive)
        if not association.is_established:
            is_rejected = association.is_rejected
            what = "rejects the association; check both AE titles" if is_rejected else f"cannot be reached; {_REACH}"
            raise StorageError(f"the archive {what}", archive.called, retryable=not is_rejected)
        return _store_each(objects, association, archive)
    finally:
        association.release()


def _store_each(objects: Sequence[Dataset], association: Association, archive: Archive) -> int:
    """Send every object, also where one before it is refused; return how many the archive held before.

    Raises:
        StorageError: The first refusal, once all were sent; at once where the next object would fare no better.
    """
    refusal: StorageError | None = None
    num_held = 0
    for each in objects:
        status = association.send_c_store(each).get("Status") if association.is_established else None
        if status is None:
            raise StorageError("the archive aborted the connection; send again", archive.called, retryable=True)
        if status in _OUT_OF_RESOURCES:
            raise StorageError(f"the archive has no room (0x{status:04X}); {_WAY_OUT}", archive.called, retryable=True)
        reason = f"the archive refused an object with status 0x{status:04X}; {_WAY_OUT}"
        if status in _NOT_FOR_US:
            raise StorageError(reason, archive.called)
        num_held += status == _HELD_BEFORE
        if status not in (_SUCCESS, _HELD_BEFORE, *_WARNINGS):
            refusal = refusal or StorageError(reason, archive.called, code=REFUSED)
    if refusal:
        raise refusal
    return num_held


def _check_accepted(objects: Iterable[Dataset], accepted: Iterable[PresentationContext], archive: Archive) -> None:
    """Check that the archive takes these kinds of objects; the client has no status for one that it cannot send.

    Raises:
        StorageError: It does not take one of them.
    """
    agreed = {str(each.abstract_syntax) for each in accepted}
    for sop_class in _classes(objects):
        if sop_class not in agreed:
            raise StorageError(
                f"the archive accepts no objects of class {sop_class}; leave their form out", archive.called
            )


def _classes(objects: Iterable[Dataset]) -> list[str]:
    return sorted({str(each.SOPClassUID) for each in objects})


def _post(objects: Sequence[Dataset], archive: WebArchive) -> int:
    """Send by STOW-RS in one request; return how many objects the archive held before."""
    from dicomweb_client.web import DICOMwebClient
    from requests import JSONDecodeError, RequestException, Session

    for name in ("dicomweb_client", "retrying"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    session = Session()
    session.trust_env = False  # variables of the environment would win over the certificates and the header below
    session.headers["Accept"] = "application/dicom+json"
    session.hooks["response"].append(_name_media_type_plainly)
    if secret := archive.authorization.get_secret_value():
        session.headers["Authorization"] = secret
    session.verify = str(archive.ca_file) if archive.ca_file else True
    session.cert = str(archive.cert_file) if archive.cert_file else None
    session.max_redirects = 0  # what is sent names patients, and goes to the address that was allowed
    client = DICOMwebClient(archive.url, session=session, timeout=TIMEOUT_S)
    client.set_http_retry_params(retry=False)  # a delivery is tried again as a whole
    host = urlsplit(archive.url).hostname or ""
    unreadable = StorageError(f"the archive's answer cannot be read; {_WAY_OUT}", host, code=REFUSED)
    try:
        num_missing, num_held = _missing_and_held(objects, client.store_instances(objects))
    except JSONDecodeError:
        raise unreadable from None
    except RequestException as error:
        if error.response is None:
            reason = f"the archive cannot be reached ({type(error).__name__}); {_REACH}"
            raise StorageError(reason, host, retryable=True) from None
        if _holds_all(objects, error.response):
            return len(objects)
        status = error.response.status_code
        code = REFUSED if status in _REFUSING_ANSWERS else ""
        is_passing = status >= 500 or status == 429
        reason = f"the archive answered {status}; {_WAY_OUT}"
        raise StorageError(reason, host, retryable=is_passing, code=code) from None
    except _UNREADABLE:
        raise unreadable from None
    finally:
        session.close()
    if num_missing:
        raise StorageError(
            f"the archive did not confirm {num_missing} of {len(objects)} objects; see its log", host, code=REFUSED
        )
    return num_held


def _name_media_type_plainly(response: Response, **_: object) -> None:
    """Leave the media type alone in a header that the client compares as a whole, and that may be missing."""
    response.headers["Content-Type"] = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _missing_and_held(objects: Sequence[Dataset], answer: Dataset) -> tuple[int, int]:
    """Return how many objects an answer does not say to be in the archive, and how many it says were there before.

    Source: DICOM PS3.18 annex I.2 (Store Instances Response Module).
    """
    failed = answer.get("FailedSOPSequence") or ()
    held = {str(each.ReferencedSOPInstanceUID) for each in failed if each.get("FailureReason") == _HELD_BEFORE}
    stored = {str(each.ReferencedSOPInstanceUID) for each in answer.get("ReferencedSOPSequence") or ()}
    wanted = {str(each.SOPInstanceUID) for each in objects}
    num_refused = sum(each.get("FailureReason") != _HELD_BEFORE for each in failed)
    return num_refused or len(wanted - stored - held), len(wanted & held)


def _holds_all(objects: Sequence[Dataset], refusal: Response) -> bool:
    """Return whether an archive stored nothing because it holds every object already."""
    from pydicom import Dataset

    try:
        answer = Dataset.from_json(refusal.json()) if refusal.status_code == _CONFLICT else Dataset()
        return _missing_and_held(objects, answer) == (0, len(objects))
    except _UNREADABLE:
        return False


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Return what verifies the archive, and shows our certificate where there is one.

    Raises:
        ConfigError: A file cannot be read.
    """
    with _certificate_of("CRRG_ARCHIVE_CA_FILE"):
        context = ssl.create_default_context(cafile=settings.archive_ca_file)
    if settings.archive_cert_file:
        with _certificate_of("CRRG_ARCHIVE_CERT_FILE"):
            context.load_cert_chain(settings.archive_cert_file)
    return context


@contextmanager
def _certificate_of(variable: str) -> Iterator[None]:
    """Name the setting whose file cannot be read within the block.

    Raises:
        ConfigError: So it is.
    """
    try:
        yield
    except OSError as error:  # ssl's own errors are of this kind
        reason = f"the certificate file cannot be read ({type(error).__name__}); correct the path, or its owner"
        raise ConfigError(reason, variable) from error
