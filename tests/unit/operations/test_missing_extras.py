"""A delivery that needs the extra ``dicom`` says so before it begins, and how to install it from the checkout."""

from __future__ import annotations

import sys
import tomllib

import pytest

from crrg.config.base import Settings
from crrg.errors import ConfigError
from crrg.operations.delivery.deliver import deliver
from crrg.operations.delivery.dicom_send import find_archive
from tests.support.delivered_night import DeliverableNight

WAY_OUT = r"pip install -e '\.\[dicom\]'"


@pytest.mark.parametrize("form", ["sr", "sc"])
def test_documents_without_the_library_that_writes_them(form: str, tmp_path, monkeypatch) -> None:
    night = DeliverableNight(tmp_path)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match=f"^forms: highdicom is not installed.*{WAY_OUT}"):
        deliver(night.form(forms=("fhir", form)), night.root, night.settings)
    assert night.delivered() == {}
    assert deliver(night.form(forms=("fhir",)), night.root, night.settings).num_delivered == 2


@pytest.mark.parametrize(
    ("address", "package"),
    [("pacs:104", "pynetdicom"), ("dicoms://pacs:2762", "pynetdicom"), ("https://pacs/web", "dicomweb_client")],
)
def test_an_archive_without_the_library_that_sends(address: str, package: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"^send_to: {package} is not installed.*{WAY_OUT}"):
        find_archive(address, "ARCHIVE", "CRRG", Settings())


def test_the_extra_of_the_message_brings_these_packages(checkout) -> None:
    extras = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {requirement.partition(">")[0].replace("-", "_") for requirement in extras["dicom"]}
    assert named == {"highdicom", "pynetdicom", "dicomweb_client"}


def test_nothing_is_asked_of_a_public_index_by_our_name(checkout) -> None:
    """The package is on none: whoever asks for it there gets nothing, or what somebody else put there."""
    places = [*checkout.glob("*.md"), *checkout.glob("docs/**/*.md"), *checkout.glob("deployments/**/*")]
    places += [path for room in ("crrg", "tasks", "flows", "deployments") for path in checkout.glob(f"{room}/**/*.py")]
    asked = [path.name for path in places if path.is_file() and "install 'crrg" in path.read_text(errors="replace")]
    assert asked == []
