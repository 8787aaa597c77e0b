"""Delivery into a real Orthanc that holds the originals, and what DICOM's own tools say of the documents."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydantic import SecretStr
from pydicom.filebase import DicomBytesIO

from crrg.errors import StorageError
from crrg.exports.originals import read_original
from crrg.operations.delivery.deliver import deliver
from crrg.operations.delivery.dicom_send import Archive, find_archive, send_objects
from deployments.services import free_port
from tests.support.delivered_night import STUDY_UIDS, DeliverableNight, film_bytes
from tests.support.drawn_delivery import COMMITTED, drawn_delivery, drawn_document, stored_objects
from tests.support.drawn_night import StandInDrafter, run_test_night
from tests.support.source_names import NAMES, named_film

pytestmark = [pytest.mark.e2e, pytest.mark.full]

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")
LIMIT_S = 60.0
TITLE = "ORTHANC"
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, WORD = "deliverer", "words-of-a-test"


@dataclass
class Orthanc:
    """A running archive.

    Attributes:
        dicom: ``host:port`` of its DICOM face.
        web: Address of its REST face.
        authorization: Header that its faces ask for; empty for none.
    """

    dicom: str
    web: str
    authorization: str = ""

    def ask(self, path: str) -> Any:
        """Return what the REST face says."""
        headers = {"Authorization": self.authorization} if self.authorization else {}
        request = urllib.request.Request(f"{self.web}/{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def instances(self) -> list[dict[str, Any]]:
        """Return the main tags of every instance, those of its study and series included."""
        return [self.ask(f"instances/{each}/simplified-tags") for each in self.ask("instances")]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    yield from run_orthanc(tmp_path, {"AuthenticationEnabled": False, "Plugins": []})


@pytest.fixture
def web_orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An archive with its DICOMweb plug-in, which asks for a password."""
    if not DICOMWEB.exists():
        pytest.skip("no orthanc-dicomweb here; `make system-deps` installs it")
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {USER: WORD}}
    authorization = f"Basic {base64.b64encode(f'{USER}:{WORD}'.encode()).decode()}"
    plugin = {"Plugins": [str(DICOMWEB)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    yield from run_orthanc(tmp_path, {**users, **plugin}, authorization)


def run_orthanc(tmp_path: Path, extra: dict[str, Any], authorization: str = "") -> Iterator[Orthanc]:
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    if not Path(program).exists():
        pytest.skip("no Orthanc here; `make system-deps` installs it")
    dicom_port, web_port = free_port(), free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "orthanc"), "IndexDirectory": str(tmp_path / "orthanc"), "DicomAet": TITLE,
        "DicomPort": dicom_port, "HttpPort": web_port, "RemoteAccessAllowed": False, "DicomAlwaysAllowStore": True,
        "OverwriteInstances": True, **extra,
    }  # fmt: skip
    file = tmp_path / "orthanc.json"
    file.write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(file)], stdout=log, stderr=log)
    archive = Orthanc(f"127.0.0.1:{dicom_port}", f"http://127.0.0.1:{web_port}", authorization)
    try:
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            try:
                archive.ask("system")
                break
            except OSError:
                assert time.monotonic() < deadline_s, "Orthanc did not start"
                time.sleep(0.2)
        yield archive
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def night(tmp_path: Path) -> DeliverableNight:
    return DeliverableNight(tmp_path / "night")


def test_drafts_stand_in_the_study_of_their_originals(orthanc, night):
    originals = [pydicom.dcmread(DicomBytesIO(night.inbox.get(each.key))) for each in night.inbox.list_objects()]
    send_objects(originals, Archive.parse(orthanc.dicom, TITLE, "CRRGCLIP"))
    form = night.form(send_to=orthanc.dicom, called_title=TITLE)

    assert deliver(form, night.root, night.settings).num_objects_sent == 5
    assert len(orthanc.ask("studies")) == len(STUDY_UIDS)
    found = orthanc.instances()
    assert sorted(each["Modality"] for each in found) == ["DX", "DX", "DX", "OT", "OT", "OT", "SR", "SR"]
    assert {each["StudyInstanceUID"] for each in found} == set(STUDY_UIDS)

    again = night.form(send_to=orthanc.dicom, called_title=TITLE, again=True)
    assert deliver(again, night.root, night.settings).num_objects_sent == 5
    assert len(orthanc.ask("instances")) == 8


def test_drafts_stand_in_the_study_of_their_originals_by_stow_too(web_orthanc, night):
    settings = night.settings.model_copy(update={"archive_authorization": SecretStr(web_orthanc.authorization)})
    root = f"{web_orthanc.web}/dicom-web"
    originals = [pydicom.dcmread(DicomBytesIO(night.inbox.get(each.key))) for each in night.inbox.list_objects()]
    send_objects(originals, find_archive(root, "", "", settings))
    with pytest.raises(StorageError, match="401"):
        deliver(night.form(send_to=root), night.root, night.settings)

    assert deliver(night.form(send_to=root), night.root, settings).num_objects_sent == 5
    assert {each["StudyInstanceUID"] for each in web_orthanc.instances()} == set(STUDY_UIDS)
    assert sorted(each["Modality"] for each in web_orthanc.instances()) == ["DX"] * 3 + ["OT"] * 3 + ["SR"] * 2
    assert deliver(night.form(send_to=root, again=True), night.root, settings).num_objects_sent == 5
    assert len(web_orthanc.ask("instances")) == 8


def test_documents_satisfy_the_validators(night, tmp_path):
    if shutil.which("dciodvfy") is None or shutil.which("dsrdump") is None:
        pytest.skip("no dciodvfy or dsrdump here; `make system-deps` installs them")
    deliver(night.form(), night.root, night.settings)
    night.inbox.put("c/ap.dcm", film_bytes(4, "6", "62", "AP", PatientSex="W"))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    deliver(night.form(), night.root, night.settings)
    files = [Path(night.zone.url(key)) for key in night.delivered() if key.endswith(".dcm")]
    assert len(files) == 5 + 3
    assert sum("PredecessorDocumentsSequence" in pydicom.dcmread(file, stop_before_pixels=True) for file in files) == 1
    for file in files:
        checked = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        said = checked.stdout + checked.stderr
        assert "Error" not in said, said
        if pydicom.dcmread(file, stop_before_pixels=True).Modality == "SR":
            dumped = subprocess.run(["dsrdump", "+Pl", str(file)], capture_output=True, text=True, check=False)
            assert dumped.returncode == 0, dumped.stderr
            assert "Imaging Measurement Report" in dumped.stdout
            assert "right lung: The lungs are clear." in dumped.stdout


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what the sources hold
@pytest.mark.parametrize("character_set", NAMES, ids="\\".join)
def test_documents_are_as_valid_as_their_source_in_every_character_set(character_set, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy here; `make system-deps` installs it")
    source = tmp_path / "source.dcm"
    source.write_bytes(named_film(character_set))
    # it knows neither katakana nor GBK
    known = errors_of(["dciodvfy", "-new", str(source)])
    for place, each in enumerate(stored_objects(drawn_delivery({"i": read_original(source.read_bytes(), "i")}))):
        each.save_as(tmp_path / f"{place}.dcm")
        assert errors_of(["dciodvfy", "-new", str(tmp_path / f"{place}.dcm")]) <= known


def test_objects_of_one_study_do_not_contradict_each_other(tmp_path):
    if shutil.which("dcentvfy") is None:
        pytest.skip("no dcentvfy here; `make system-deps` installs it")
    film = film_bytes(1, "5", "51", IssuerOfPatientID="HOSP-A", StudyDescription="Chest", TimezoneOffsetFromUTC="+0900")
    files = [tmp_path / "source.dcm"]
    files[0].write_bytes(film)
    for phrase, day in (("The lungs are clear.", 0), ("There is an effusion.", 1)):
        made = drawn_delivery(
            {"i": read_original(film, "i")},
            document=drawn_document("i", phrase=phrase),
            committed=COMMITTED + timedelta(days=day),
        )
        for each in stored_objects(made):
            files.append(tmp_path / f"{len(files)}.dcm")
            each.save_as(files[-1])
    assert contradictions(files) == []
    renamed = pydicom.dcmread(files[-1])
    renamed.PatientName = "Other^Person"
    renamed.save_as(files[-1])
    assert any("PatientName" in line for line in contradictions(files))


def contradictions(files: list[Path]) -> list[str]:
    told = subprocess.run(["dcentvfy", *map(str, files)], capture_output=True, text=True, check=False)
    lines = (told.stdout + told.stderr).splitlines()
    # it takes the accession number of a report for one of the study, and that of a capture for one of the series
    return [line for line in lines if line.strip() and "<AccessionNumber> IE <Study> versus <Series>" not in line]


def errors_of(command: list[str]) -> set[str]:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def test_a_wrong_document_is_found_by_the_validator(night, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy here; `make system-deps` installs it")
    deliver(night.form(forms=("sr",)), night.root, night.settings)
    broken = pydicom.dcmread(DicomBytesIO(next(iter(night.delivered().values()))))
    del broken.VerificationFlag
    broken.save_as(tmp_path / "broken.dcm")
    checked = subprocess.run(["dciodvfy", str(tmp_path / "broken.dcm")], capture_output=True, text=True, check=False)
    assert "Error" in checked.stdout + checked.stderr
