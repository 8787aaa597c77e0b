"""The archive of RadGraph: what is needed comes out of a tar file or a folder, and nothing is written elsewhere."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from benchmarks.classification.published_graph import GraphSizes, graph_labels, graph_settings, save_graph_archive
from crrg.errors import ModelError
from crrg.importers import radgraph_archive
from crrg.importers.radgraph_archive import open_graph_archive
from crrg.importers.torch_file import TorchContents

SIZES = GraphSizes()
STATE = {"a.weight": torch.ones(2)}


@pytest.fixture(autouse=True)
def _weights_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process has its own tests, and `crrg import radgraph` is tested with it."""

    @contextmanager
    def read(path: Path) -> Iterator[TorchContents]:
        yield TorchContents(torch.load(path, weights_only=True), {}, {})

    monkeypatch.setattr(radgraph_archive, "open_torch_file", read)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message), open_graph_archive(path):
        pass


def test_settings_labels_and_weights_come_out_of_a_tar_file_or_a_folder(tmp_path: Path) -> None:
    save_graph_archive(SIZES, tmp_path / "any-name", STATE)
    with tarfile.open(tmp_path / "any-name") as archive:
        archive.extractall(tmp_path / "folder", filter="data")
    for path in (tmp_path / "any-name", tmp_path / "folder"):
        with open_graph_archive(path) as found:
            assert found.settings == graph_settings(SIZES)
            assert found.labels == graph_labels(SIZES)
            assert found.labels["radgraph__ner_labels"][0] == ""
            assert torch.equal(found.tensors["a.weight"], torch.ones(2))


def test_names_that_lead_elsewhere_and_links_are_not_followed(tmp_path: Path) -> None:
    save_graph_archive(SIZES, tmp_path / "model.tar.gz", STATE)
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        for name in ("../outside.txt", "vocabulary/../../outside.txt", "vocabulary/a/b.txt", str(tmp_path / "abs.txt")):
            add(archive, name, b"written")
        link = tarfile.TarInfo("config.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "model.tar.gz")
        archive.addfile(link)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    refused(tmp_path / "bad.tar", r"it holds no config\.json")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_is_no_such_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path / "absent", "no such file")
    (tmp_path / "text").write_text("no archive")
    refused(tmp_path / "text", "cannot be read")
    save_graph_archive(SIZES, tmp_path / "whole", STATE)
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-200])
    refused(tmp_path / "cut", "cannot be read")
    for files, message in (
        ({"config.json": b"{}"}, r"holds no weights\.th"),
        ({"config.json": b"[1, 2]"}, "not a JSON object"),
        ({"config.json": b"\xff"}, r"config\.json is not text"),
        ({"config.json": b"{}", "vocabulary/x.txt": b"x" * (2**20 + 1)}, r"x\.txt has more than"),
    ):
        with tarfile.open(tmp_path / "part.tar", "w") as archive:
            for name, data in files.items():
                add(archive, name, data)
        refused(tmp_path / "part.tar", message)
    monkeypatch.setattr(radgraph_archive, "MAX_MEMBERS", 3)
    refused(tmp_path / "whole", "far more than")
