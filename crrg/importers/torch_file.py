"""The one reader of torch archives: a limited child process takes tensors, numbers and strings out of one.

A torch archive is a pickle; ``weights_only`` loads it without running anything in it, memory-mapped where the format
allows. The child has no credentials, no more memory and time than such a file needs, and hands over safetensors and
JSON; tensors that share storage are handed over once, with the other names as aliases.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from crrg.errors import ModelError
from crrg.working_folder import working_folder

MAX_FILE_BYTES = 16 * 2**30
TIMEOUT_S = 900
MEMORY_BESIDE_FILE_BYTES = 6 * 2**30
_TENSORS, _VALUES = "tensors.safetensors", "values.json"
_SKIPPED = ("optimizer", "scaler", "scheduler")
"""Top-level names that are left out: training state is large and of no use here."""
_ASKED_FOR = re.compile(r"GLOBAL ([\w.]{1,120})")
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True)
class TorchContents:
    """What an archive held.

    Attributes:
        tensors: By dotted name, e.g. ``model.backbone.0.weight``; each shared tensor under one name only.
        aliases: Further names of shared tensors, to the name they stand under in ``tensors``.
        values: Numbers and strings by dotted name.
    """

    tensors: Mapping[str, Tensor]
    aliases: Mapping[str, str]
    values: Mapping[str, Any]

    def below(self, prefix: str) -> TorchContents:
        """Return what stands under ``prefix.``, with that prefix taken off; everything for an empty prefix."""
        if not prefix:
            return self
        cut = len(prefix) + 1
        inside = {name: name[cut:] for name in (*self.tensors, *self.aliases) if name.startswith(f"{prefix}.")}
        tensors = {short: self[name] for name, short in inside.items() if name in self.tensors}
        aliases: dict[str, str] = {}
        for name, short in inside.items():
            target = self.aliases.get(name)
            if target is None:
                continue
            if target in inside:
                aliases[short] = inside[target]
            else:
                # the tensor's first name lies elsewhere in the file
                tensors[short] = self.tensors[target]
        values = {name[cut:]: value for name, value in self.values.items() if name.startswith(f"{prefix}.")}
        return TorchContents(tensors, aliases, values)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by any of its names; ``KeyError`` where there is none."""
        return self.tensors[self.aliases.get(name, name)]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a tensor of this name."""
        return name in self.tensors or name in self.aliases

    def names(self) -> list[str]:
        """Return all names of tensors, sorted."""
        return sorted((*self.tensors, *self.aliases))


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchContents]:
    """Take the tensors, numbers and strings out of a torch archive.

    Args:
        path: ``.pt``, ``.pth`` or ``.tar`` as ``torch.save`` writes it.

    Yields:
        Its contents; the tensors are memory-mapped and gone after the block.

    Raises:
        ModelError: The file is no such archive, holds more than tensors, numbers and strings, or is too large.
    """
    if not path.is_file():
        raise ModelError("there is no such file; give the path of a downloaded checkpoint", "checkpoint")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelError(f"the file has {size} bytes, at most {MAX_FILE_BYTES} are read", "checkpoint")
    with working_folder() as folder:
        _run_child(path, folder, size)
        record = json.loads((folder / _VALUES).read_text())
        with safe_open(str(folder / _TENSORS), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            yield TorchContents(tensors, record["aliases"], record["values"])


def _run_child(path: Path, folder: Path, size: int) -> None:
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    command = [sys.executable, "-m", "crrg.importers.torch_file", str(path.resolve()), str(folder)]

    def limit() -> None:
        memory = 3 * size + MEMORY_BESIDE_FILE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_S, TIMEOUT_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    environment["OMP_NUM_THREADS"] = "1"
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        done = subprocess.run(
            command, env=environment, preexec_fn=limit, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"the file was not read within {TIMEOUT_S} s", "checkpoint") from error
    if done.returncode != 0:
        raise ModelError(
            f"the file is not a torch archive of only tensors, numbers and strings "
            f"({_cause(done.returncode, done.stderr)}); nothing else is ever loaded: give one of its state dict alone",
            "checkpoint",
        )


def _cause(code: int, stderr: str) -> str:
    """Return what the child stumbled over; torch ends its message of a refused class with where to read about it."""
    asked = _ASKED_FOR.search(stderr)
    if asked is not None:
        return f"it needs {asked.group(1)}"
    if "Unsupported operand" in stderr:
        return "it is not such an archive"
    last = (stderr.strip().splitlines() or ["no message"])[-1]
    return f"exit {code}: {last[:200]}"


def _convert(path: Path, folder: Path) -> None:
    """Write an archive's tensors as safetensors and the rest as JSON; runs in the child."""
    contents = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    values: dict[str, Any] = {}
    first_names: dict[tuple[Any, ...], str] = {}
    for name, leaf in _leaves(contents):
        if name in tensors or name in aliases or name in values:
            raise ValueError(f"it contains two entries named {name[:120]}")
        if isinstance(leaf, Tensor):
            place = (
                leaf.untyped_storage().data_ptr(),
                leaf.storage_offset(),
                tuple(leaf.shape),
                leaf.stride(),
                leaf.dtype,
            )
            if leaf.numel() and place in first_names:
                aliases[name] = first_names[place]
            else:
                first_names[place] = name
                tensors[name] = leaf.detach()
        elif isinstance(leaf, str | int | float | bool):
            values[name] = leaf
    save_file(_unshared(tensors), str(folder / _TENSORS))
    (folder / _VALUES).write_text(json.dumps({"aliases": aliases, "values": values}))


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy those tensors that are views or parts of another's storage; the others stay memory-mapped."""
    storages: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        plain[name] = tensor if tensor.is_contiguous() and storage not in storages else tensor.clone().contiguous()
        storages.add(storage)
    return plain


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if prefix or str(key) not in _SKIPPED:
                yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}.{index}")
    else:
        yield prefix, value


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
