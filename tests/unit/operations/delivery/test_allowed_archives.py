"""Identified documents and an archive's secret go where whoever set up the process wants them, and nowhere else."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO
from typer.testing import CliRunner

from crrg.cli.main import app
from crrg.config.base import Settings
from crrg.errors import ConfigError, StorageError
from crrg.operations.delivery import deliver as delivery
from crrg.operations.delivery.allowed import check_allowed
from crrg.operations.delivery.deliver import deliver
from crrg.operations.delivery.dicom_send import find_archive, send_objects
from tests.support.delivered_night import DeliverableNight, film_bytes
from tests.support.keys import KEY
from tests.support.served import served

pytest.importorskip("dicomweb_client", reason="delivery needs the extra dicom")
ELSEWHERE = "https://collector.example.net/dicom-web"
LISTED = ("pacs:104", "dicoms://pacs:2762", "https://pacs.example.org/dicom-web")


def settings_of(*archives: str, authorization: str = "") -> Settings:
    return Settings.model_validate({"archives": archives, "archive_authorization": authorization})


def test_a_flow_run_sends_identified_documents_to_no_archive_that_was_not_named(tmp_path: Path, monkeypatch) -> None:
    night, sent = DeliverableNight(tmp_path), []
    monkeypatch.setattr(delivery, "send_objects", lambda objects, archive, **_: sent.append(archive) or len(objects))
    for archives in ((), LISTED):
        settings = night.settings.model_copy(update={"archives": archives})
        with pytest.raises(ConfigError, match=r"^send_to: .*CRRG_ARCHIVES"):
            deliver(night.form(send_to=ELSEWHERE), night.root, settings)
    assert (sent, night.delivered()) == ([], {})
    settings = night.settings.model_copy(update={"archives": (*LISTED, ELSEWHERE)})
    assert deliver(night.form(send_to=ELSEWHERE), night.root, settings).num_objects_sent == 5
    assert {archive.url for archive in sent} == {ELSEWHERE}


@pytest.mark.parametrize("is_typed", [False, True])
@pytest.mark.parametrize(
    ("address", "is_named"),
    [
        *((address, True) for address in LISTED),
        ("PACS:104", True),
        ("https://PACS.example.org/dicom-web/", True),
        ("pacs:105", False),
        ("dicoms://pacs:104", False),
        ("http://pacs.example.org/dicom-web", False),
        ("https://pacs.example.org/DICOM-web", False),
        ("https://pacs.example.org/dicom-web/../other", False),
        ("https://pacs.example.org/dicom-web?to=x", False),
        ("https://pacs.example.org.example.net/dicom-web", False),
        ("127.0.0.1:104", False),
    ],
)
def test_where_archives_are_named_these_alone_are_sent_to(address: str, is_named: bool, is_typed: bool) -> None:
    settings = settings_of(*LISTED, authorization="Bearer of-the-archive")
    if is_named:
        check_allowed(address, settings, is_typed=is_typed)
    else:
        with pytest.raises(ConfigError, match="CRRG_ARCHIVES does not name this archive; add its address"):
            check_allowed(address, settings, is_typed=is_typed)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:104", "localhost:4242", "dicoms://[::1]:2762", "http://localhost:8042/w"]
)
def test_where_none_is_named_this_machine_may_be_sent_to(address: str) -> None:
    check_allowed(address, settings_of(authorization="Bearer of-the-archive"), is_typed=False)


@pytest.mark.parametrize("address", [*LISTED, ELSEWHERE, "localhost.example.net:104", "[::1:104"])
def test_where_none_is_named_an_address_is_for_the_command_line_and_gets_no_secret(address: str) -> None:
    with pytest.raises(ConfigError, match="set it where the worker of the pool `deliver` is started"):
        check_allowed(address, settings_of(), is_typed=False)
    check_allowed(address, settings_of(), is_typed=True)
    secret = settings_of(authorization="Bearer of-the-archive")
    if address.startswith("https://"):
        with pytest.raises(ConfigError, match="CRRG_ARCHIVE_AUTHORIZATION is sent only to archives") as refused:
            check_allowed(address, secret, is_typed=True)
        assert "of-the-archive" not in str(refused.value)
    else:
        check_allowed(address, secret, is_typed=True)  # C-STORE has no such header


def test_a_single_user_sends_where_the_command_line_says(tmp_path: Path, monkeypatch) -> None:
    night, sent = DeliverableNight(tmp_path), []
    monkeypatch.setattr(delivery, "send_objects", lambda objects, archive, **_: sent.append(archive) or len(objects))
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    monkeypatch.setenv("CRRG_IDENTIFIED_ROOT", night.zone.root)
    command = ["deliver", "--inbox", night.inbox.root, "--root", night.root.root, "--send-to"]
    done = CliRunner().invoke(app, [*command, "pacs:104"])
    assert (done.exit_code, len(sent)) == (0, 2), done.output
    monkeypatch.setenv("CRRG_ARCHIVES", "pacs:105, https://pacs.example.org/dicom-web")
    refused = CliRunner().invoke(app, [*command, "pacs:104", "--again"])
    assert (refused.exit_code, len(sent)) == (2, 2)
    assert "CRRG_ARCHIVES does not name this archive" in refused.stderr
    assert CliRunner().invoke(app, [*command, "pacs:105", "--again"]).exit_code == 0


def test_the_list_is_separated_by_commas_in_the_environment_and_a_list_in_the_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, expected in (("", ()), (" pacs:104 ,https://a/b,", ("pacs:104", "https://a/b"))):
        monkeypatch.setenv("CRRG_ARCHIVES", text)
        assert Settings().archives == expected
    (tmp_path / "crrg.toml").write_text('archives = ["pacs:105"]')
    assert Settings().archives == ("pacs:105",)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_archive_that_points_elsewhere_is_not_followed_there(status: int) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", "/elsewhere/studies")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            asked.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    film = pydicom.dcmread(DicomBytesIO(film_bytes(1, "5", "51")))
    with served(Handler) as port, pytest.raises(StorageError, match=f"answered {status}"):
        send_objects([film], find_archive(f"http://localhost:{port}/dicom-web", "", "", Settings()))
    assert asked == ["/dicom-web/studies"]
