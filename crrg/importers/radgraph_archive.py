"""The archive that RadGraph is published as: settings, lists of labels, and a torch archive of weights.

``model.tar.gz`` of the allennlp library, or a folder with its content. Only the three kinds of files are taken out, by
their names, as bytes of bounded size; nothing is unpacked to where the archive says.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crrg.errors import ModelError
from crrg.importers.torch_file import MAX_FILE_BYTES, TorchContents, open_torch_file
from crrg.working_folder import working_folder

SETTINGS, WEIGHTS, LABELS = "config.json", "weights.th", "vocabulary"
MAX_TEXT_BYTES = 2**20
MAX_MEMBERS = 1000
SOURCE = "radgraph"


@dataclass(frozen=True)
class GraphArchive:
    """What the archive held.

    Attributes:
        settings: Content of ``config.json``.
        labels: Labels in the order of their numbers, by the name of their list.
        tensors: Weights under their published names.
    """

    settings: Mapping[str, Any]
    labels: Mapping[str, list[str]]
    tensors: TorchContents


@contextmanager
def open_graph_archive(path: Path) -> Iterator[GraphArchive]:
    """Take settings, labels and weights out of an archive or a folder.

    Yields:
        Its contents; the tensors are gone after the block.

    Raises:
        ModelError: It is neither, a part is missing, or a part is too large or damaged.
    """
    with working_folder() as folder:
        if path.is_dir():
            source = path
        else:
            source = folder
            _take_out(path, source)
        settings = _settings(source)
        labels = {file.stem: _lines(file) for file in sorted((source / LABELS).glob("*.txt"))}
        if not (source / WEIGHTS).is_file():
            raise _lacks(WEIGHTS)
        with open_torch_file(source / WEIGHTS) as tensors:
            yield GraphArchive(settings, labels, tensors)


def _take_out(path: Path, folder: Path) -> None:
    """Copy the files that are needed out of a tar archive."""
    if not path.is_file():
        raise ModelError("there is no such file; give the path of the downloaded model.tar.gz", "checkpoint")
    (folder / LABELS).mkdir()
    try:
        with tarfile.open(path, "r:*") as archive:
            num_bytes = 0
            for number, member in enumerate(archive):
                num_bytes += member.size
                if number >= MAX_MEMBERS or num_bytes > MAX_FILE_BYTES:
                    raise ModelError("the archive contains far more than a published one", "checkpoint")
                target = _target(member.name, folder)
                content = archive.extractfile(member) if target is not None and member.isfile() else None
                if target is None or content is None:
                    continue
                _check_size(target.name, member.size)
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ModelError(
            f"the archive cannot be read ({type(error).__name__}); give model.tar.gz as downloaded, or a folder with "
            "its content",
            "checkpoint",
        ) from error


def _target(name: str, folder: Path) -> Path | None:
    """Return where a member of the archive is copied to; ``None`` if it is not needed."""
    name = name.removeprefix("./")
    if name in (SETTINGS, WEIGHTS):
        return folder / name
    room, _, file = name.partition("/")
    is_list = room == LABELS and file.endswith(".txt") and Path(file).name == file
    return folder / LABELS / file if is_list else None


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_text(folder / SETTINGS)))
    except (TypeError, ValueError) as error:
        raise ModelError(
            "its config.json is not a JSON object; the archive is damaged, download it again", SOURCE
        ) from error


def _lines(path: Path) -> list[str]:
    """Return the labels of a list: one a line, the first of entities being the empty one."""
    lines = _text(path).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _text(path: Path) -> str:
    if not path.is_file():
        raise _lacks(path.name)
    _check_size(path.name, path.stat().st_size)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"its {path.name} is not text; the archive is damaged, download it again", SOURCE) from error


def _check_size(name: str, num_bytes: int) -> None:
    if name != WEIGHTS and num_bytes > MAX_TEXT_BYTES:
        raise ModelError(f"its {name} has more than {MAX_TEXT_BYTES} bytes; no published one has", SOURCE)


def _lacks(name: str) -> ModelError:
    return ModelError(
        f"it holds no {name}; give RadGraph's model.tar.gz as published, or a folder with its content", SOURCE
    )
