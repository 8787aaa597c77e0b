"""Archives by C-STORE over TLS and by STOW-RS: what is sent arrives whole, what is not confirmed is an error."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO

from crrg.config.base import Settings
from crrg.errors import ConfigError, StorageError
from crrg.operations.delivery.dicom_send import REFUSED, Archive, WebArchive, find_archive, send_objects
from tests.support.certificates import self_signed
from tests.support.delivered_night import NAME, film_bytes
from tests.support.served import served

if TYPE_CHECKING:
    from pynetdicom.events import Event

pytest.importorskip("dicomweb_client", reason="delivery needs the extra dicom")


def films() -> list[pydicom.Dataset]:
    return [pydicom.dcmread(DicomBytesIO(film_bytes(seed, "5", f"5{seed}"))) for seed in (1, 2)]


@dataclass
class WebService:
    """A DICOMweb service that takes STOW-RS requests as the standard words them, and nothing else."""

    url: str = ""
    status: int = 200
    refused: int = 0
    failure_reason: int = 0xC000
    body: bytes | None = None
    media_type: str | None = "application/dicom+json"
    authorizations: list[str | None] = field(default_factory=list)
    received: list[pydicom.Dataset] = field(default_factory=list)

    def take(self, headers: dict[str, str], path: str, body: bytes) -> tuple[int, bytes]:
        """Check a request, keep its objects, and return status and answer."""
        self.authorizations.append(headers.get("Authorization"))
        assert path == "/dicom-web/studies"
        message = BytesParser().parsebytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
        assert message.get_content_type() == "multipart/related"
        assert message.get_param("type") == "application/dicom"
        assert headers["Accept"] == "application/dicom+json"
        uids = []
        for part in message.get_payload():
            assert part.get_content_type() == "application/dicom"
            found = pydicom.dcmread(DicomBytesIO(part.get_payload(decode=True)))
            self.received.append(found)
            uids.append(str(found.SOPInstanceUID))
        assert uids
        if self.body is not None:
            return self.status, self.body
        answer = {"00081199": _items(uids[self.refused :])}
        if self.refused:
            why = {"00081197": {"vr": "US", "Value": [self.failure_reason]}}
            answer["00081198"] = _items(uids[: self.refused], why)
        return self.status, json.dumps(answer).encode()


def _items(uids: list[str], why: dict[str, object] | None = None) -> dict[str, object]:
    return {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}, **(why or {})} for uid in uids]}


@contextmanager
def web_service(certificate: Path | None = None) -> Iterator[WebService]:
    service, problems = WebService(), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                status, answer = service.take(dict(self.headers), self.path, body)
            except AssertionError as error:
                problems.append(error)
                status, answer = 400, b""
            self.send_response(status)
            if service.media_type is not None:
                self.send_header("Content-Type", service.media_type)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler, certificate) as port:
        service.url = f"{'https' if certificate else 'http'}://localhost:{port}/dicom-web"
        yield service
    assert not problems


@contextmanager
def storage_service(
    store: Callable[[Event], int], classes: Sequence[str] = (), syntaxes: Sequence[str] = ()
) -> Iterator[Archive]:
    """Take objects of some SOP classes by C-STORE, of all where none is named, and answer as a function says."""
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    entity = AE(ae_title="ARCHIVE")
    entity.supported_contexts = [] if classes else AllStoragePresentationContexts
    for sop_class in classes:
        entity.add_supported_context(sop_class, *([list(syntaxes)] if syntaxes else []))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        yield Archive("127.0.0.1", server.server_address[1], "ARCHIVE", "CRRGCLIP")
    finally:
        server.shutdown()


def archive_of(address: str, **settings: object) -> Archive | WebArchive:
    return find_archive(address, "ARCHIVE", "CRRGCLIP", Settings.model_validate(settings))


def test_stow_sends_every_object_whole_in_one_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sent = films()
    with web_service() as service:
        send_objects(sent, archive_of(f"{service.url}/", archive_authorization="Bearer of-a-canary"))
    assert service.received == sent
    assert service.authorizations == ["Bearer of-a-canary"]
    assert NAME not in caplog.text
    assert str(sent[0].StudyInstanceUID) not in caplog.text
    assert "canary" not in caplog.text


def test_a_large_object_arrives_whole() -> None:
    large = pydicom.dcmread(DicomBytesIO(film_bytes(1, "5", "51")))
    large.PixelData = bytes(3_000_000)
    with web_service() as service:
        send_objects([large], archive_of(service.url))
    assert service.received == [large]


@pytest.mark.parametrize(
    ("status", "is_retryable"), [(503, True), (500, True), (429, True), (401, False), (409, False)]
)
def test_a_refusal_is_an_error_and_says_whether_it_may_pass(status: int, is_retryable: bool) -> None:
    with web_service() as service:
        service.status, service.body = status, b"{}"
        with pytest.raises(StorageError, match=f"{status}; see the archive's log, then deliver again") as refused:
            send_objects(films(), archive_of(service.url))
    assert refused.value.retryable == is_retryable
    assert (refused.value.code == REFUSED) == (status == 409)
    assert len(service.authorizations) == 1


def test_one_refused_object_is_an_error() -> None:
    with web_service() as service:
        service.refused = 1
        with pytest.raises(StorageError, match="1 of 2") as refused:
            send_objects(films(), archive_of(service.url))
    assert refused.value.code == REFUSED


@pytest.mark.parametrize("media_type", ["text/html", None])
def test_an_answer_that_confirms_nothing_is_an_error(media_type: str | None) -> None:
    with web_service() as service:
        service.media_type = media_type
        with pytest.raises(StorageError, match="2 of 2") as refused:
            send_objects(films(), archive_of(service.url))
    assert refused.value.code == REFUSED


@pytest.mark.parametrize("media_type", ["application/dicom+json; charset=utf-8", "Application/DICOM+JSON"])
def test_an_answer_counts_however_its_media_type_is_written(media_type: str) -> None:
    with web_service() as service:
        service.media_type = media_type
        send_objects(films(), archive_of(service.url))


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/dicom+json", b"[]"),
        ("application/dicom+json", b"{"),
        ("application/dicom+json", b'{"00081199": {"vr": "SQ", "Value": [{}]}}'),
        ("application/dicom+json", b'{"00081199": {"vr": "US", "Value": [1]}}'),
        ("application/dicom+xml", b"<html>x"),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_refusal(media_type: str, body: bytes) -> None:
    with web_service() as service:
        service.media_type, service.body = media_type, body
        with pytest.raises(StorageError, match="answer cannot be read") as refused:
            send_objects(films(), archive_of(service.url))
    assert (refused.value.code, refused.value.retryable) == (REFUSED, False)


@pytest.mark.parametrize(("status", "refused"), [(202, 1), (409, 2)])
def test_what_a_web_service_holds_already_counts_as_stored_where_it_may_be_the_same(status: int, refused: int) -> None:
    with web_service() as service:
        service.status, service.refused, service.failure_reason = status, refused, 0x0111
        assert send_objects(films(), archive_of(service.url), may_be_held=True) == 2 - refused
        with pytest.raises(StorageError, match=r"holds an earlier version .*; delete it there") as held:
            send_objects(films(), archive_of(service.url))
        service.failure_reason = 0x0110
        with pytest.raises(StorageError) as error:
            send_objects(films(), archive_of(service.url), may_be_held=True)
    assert held.value.code == error.value.code == REFUSED


def test_a_service_that_is_away_may_come_back() -> None:
    with pytest.raises(StorageError, match=r"cannot be reached .*; check the address .--send-to.") as away:
        send_objects(films(), archive_of("http://127.0.0.1:9/dicom-web"))
    assert away.value.retryable


def test_the_certificate_of_a_web_service_is_checked(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with web_service(certificate) as service:
        with pytest.raises(StorageError, match="SSLError"):
            send_objects(films(), archive_of(service.url))
        assert service.received == []
        send_objects(films(), archive_of(service.url, archive_ca_file=certificate))
    assert len(service.received) == 2


@pytest.fixture
def scp(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A storage service over TLS: address, its certificate, what it received."""
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    certificate, received = self_signed(tmp_path), []

    def store(event: evt.Event) -> int:
        received.append(str(event.dataset.SOPInstanceUID))
        return 0

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    entity = AE(ae_title="ARCHIVE")
    entity.supported_contexts = AllStoragePresentationContexts
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    assert server is not None
    yield f"localhost:{server.server_address[1]}", certificate, received
    server.shutdown()


def test_c_store_over_tls_checks_the_archive(scp: tuple[str, Path, list[str]]) -> None:
    address, certificate, received = scp
    with pytest.raises(StorageError):
        send_objects(films(), archive_of(f"dicoms://{address}"))
    assert received == []
    send_objects(films(), archive_of(f"dicoms://{address}", archive_ca_file=certificate))
    assert received == [str(film.SOPInstanceUID) for film in films()]


@pytest.mark.parametrize(
    ("status", "is_about_the_object", "is_retryable"),
    [(0xA900, True, False), (0xC001, True, False), (0x0124, False, False), (0xA700, False, True)],
)
def test_a_status_says_whether_others_would_be_taken(
    status: int, is_about_the_object: bool, is_retryable: bool
) -> None:
    told = pytest.raises(StorageError, match=rf"0x{status:04X}.*; see the archive's log")
    with storage_service(lambda _: status) as archive, told as refused:
        send_objects(films(), archive)
    assert (refused.value.code == REFUSED, refused.value.retryable) == (is_about_the_object, is_retryable)


def test_a_kind_of_object_that_the_archive_does_not_take_is_said() -> None:
    from pynetdicom.sop_class import ComprehensiveSRStorage, DigitalXRayImageStorageForPresentation

    (film, *_), report = films(), pydicom.Dataset()
    report.SOPClassUID, report.file_meta = ComprehensiveSRStorage, film.file_meta
    assert film.SOPClassUID == DigitalXRayImageStorageForPresentation
    with storage_service(lambda _: 0, [ComprehensiveSRStorage]) as archive:
        for sent in ([report, film], [film]):  # of one film alone it takes nothing at all
            with pytest.raises(StorageError, match="leave their form out"):
                send_objects(sent, archive)


def test_an_archive_that_knows_the_default_syntax_alone_is_sent_that() -> None:
    from pydicom.uid import ImplicitVRLittleEndian

    received: list[pydicom.Dataset] = []

    def store(event: Event) -> int:
        received.append(event.dataset)
        return 0

    classes = [films()[0].SOPClassUID]
    with storage_service(store, classes, [ImplicitVRLittleEndian]) as archive:
        send_objects(films(), archive)
    assert received == films()


@pytest.mark.parametrize(
    ("first", "may_be_held", "said"),
    [(0x0111, True, ""), (0x0111, False, "holds an earlier version .*; delete it there"), (0xC001, True, "0xC001")],
)
def test_an_object_that_is_held_already_or_refused_keeps_no_other_back(
    first: int, may_be_held: bool, said: str
) -> None:
    received: list[str] = []

    def store(event: Event) -> int:
        received.append(str(event.dataset.SOPInstanceUID))
        return first if len(received) == 1 else 0

    told = pytest.raises(StorageError, match=said) if said else nullcontext()
    with storage_service(store) as archive, told:
        assert send_objects(films(), archive, may_be_held=may_be_held) == 1
    assert received == [str(film.SOPInstanceUID) for film in films()]


@pytest.mark.parametrize(
    ("address", "settings", "said"),
    [
        ("archive", {}, "host:port"),
        ("https://user" + ":word@archive/root", {}, "CRRG_ARCHIVE_AUTHORIZATION"),
        ("https:///root", {}, "password"),
        ("http://archive/root", {"archive_authorization": "Bearer x"}, "https"),
    ],
)
def test_addresses_that_cannot_be_meant_are_refused(address: str, settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        archive_of(address, **settings)


@pytest.mark.parametrize("address", ["dicoms://archive:2762", "https://archive/root"])
@pytest.mark.parametrize("setting", ["archive_ca_file", "archive_cert_file"])
def test_a_certificate_that_cannot_be_read_is_said_by_its_own_name_before_anything_is_sent(
    setting: str, address: str, tmp_path: Path
) -> None:
    (tmp_path / "none.pem").write_text("no certificate")
    for path in (tmp_path / "nowhere.pem", tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match=rf"^CRRG_{setting.upper()}: .*correct the path"):
            archive_of(address, **{setting: path})


def test_addresses_say_the_way() -> None:
    assert archive_of("pacs:104") == Archive("pacs", 104, "ARCHIVE", "CRRGCLIP")
    over_tls = archive_of("dicoms://pacs:2762")
    assert isinstance(over_tls, Archive)
    assert over_tls.tls is not None
    assert over_tls.tls.verify_mode is ssl.CERT_REQUIRED
    web = archive_of("https://pacs/dicom-web/", archive_authorization="Bearer secret-word")
    assert web == WebArchive("https://pacs/dicom-web", web.authorization)
    assert "secret-word" not in repr(web)
