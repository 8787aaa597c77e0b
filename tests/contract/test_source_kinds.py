from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from crrg.cli import app
from crrg.config.data import IngestConfig
from crrg.data.archives.source_kinds import detect_kind, source_class
from crrg.domain.source_kind import SourceKind
from crrg.storage import Storage


@pytest.mark.parametrize("kind", SourceKind)
def test_a_kind_of_archive_is_one_module_and_one_entry(kind, tmp_path):
    opener = source_class(kind)
    source = opener(Storage(str(tmp_path)))
    assert opener.kind is kind
    assert source.kind is kind
    assert source.storage.root == str(tmp_path)
    assert source.site
    assert source.inventory() == []


def test_what_no_kind_knows_is_a_folder(tmp_path):
    (tmp_path / "film.png").write_bytes(b"x")
    assert detect_kind(Storage(str(tmp_path)), ["film.png"]) is SourceKind.FOLDER
    assert list(SourceKind)[-1] is SourceKind.FOLDER


def test_form_and_command_line_offer_every_kind():
    choices = IngestConfig.model_json_schema()["properties"]["source_kind"]["enum"]
    assert choices == ["auto", *sorted(SourceKind)]
    for choice in choices:
        assert IngestConfig(source="x", source_kind=choice).source_kind == choice
    shown = CliRunner().invoke(app, ["ingest", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output
    assert all(kind in shown for kind in SourceKind)


def test_an_unknown_kind_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"auto, .*folder"):
        IngestConfig(source="x", source_kind="shoebox")


def test_opening_one_kind_imports_no_other():
    code = (
        "import sys; from crrg.data.archives.source_kinds import source_class;"
        "from crrg.domain.source_kind import SourceKind;"
        "source_class(SourceKind.OPENI);"
        "print('crrg.data.archives.openi' in sys.modules, 'crrg.data.archives.folder' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"
