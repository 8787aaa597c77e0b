"""A file of weights as people publish them: a torch archive, read in a child process, or safetensors, read here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from crrg.errors import ModelError
from crrg.importers.torch_file import MAX_FILE_BYTES, TorchContents, open_torch_file


@contextmanager
def open_weights_file(path: Path) -> Iterator[TorchContents]:
    """Take the tensors out of a file, which is told by its content and not by its name.

    Args:
        path: ``.safetensors``, or a torch archive (``.bin``, ``.pt``, ``.pth``).

    Yields:
        Its contents; the tensors are memory-mapped and gone after the block.

    Raises:
        ModelError: The file is neither, is damaged, or is too large.
    """
    if not (path.is_file() and _is_safetensors(path)):
        with open_torch_file(path) as contents:
            yield contents
        return
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelError(f"the file has {size} bytes, at most {MAX_FILE_BYTES} are read", "checkpoint")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ModelError(f"the safetensors are damaged ({error}); download the file again", "checkpoint") from error
    yield TorchContents(tensors, {}, {})


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file begins with the length of a JSON header and the header, as safetensors do."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= path.stat().st_size
