"""What a measurement is of: the processor, the libraries and the code that took it.

Rows of a table that is gone on with are of one identity: those of another machine or program are kept in a file of
their own. Comments, docstrings and layout are no part of the code, so that a word that is put better costs no hours.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import crrg

LIBRARIES = ("torch", "torchvision", "transformers")
PROCESSOR = Path("/proc/cpuinfo")
ROOM = Path(crrg.__file__).parent
NAMING = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
DIGITS = 12
Named = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def identity(sources: Iterable[Path]) -> dict[str, str]:
    """Return processor, libraries and the digest of the code.

    Args:
        sources: Modules, and folders of modules, that decide what is measured.
    """
    return {"processor": processor(), "libraries": libraries(), "code": code_digest(sources)}


def processor() -> str:
    """Return the first processor's name, family and model, since names of virtual ones are alike; or ``unknown``."""
    lines = PROCESSOR.read_text(errors="replace").splitlines() if PROCESSOR.is_file() else []
    found: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        found.setdefault(name.strip(), value.strip())
    known = [found[key] if key == "model name" else f"{key} {found[key]}" for key in NAMING if key in found]
    return ", ".join(known) or "unknown"


def libraries() -> str:
    """Return the libraries that compute, with their versions."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def of_crrg(*names: str) -> list[Path]:
    """Return rooms or modules of ``crrg`` by their names, such as ``inference`` or ``training/loop.py``."""
    return [ROOM / name for name in names]


def code_digest(sources: Iterable[Path]) -> str:
    """Return the digest of what modules do, whatever is said about it in comments and docstrings.

    Args:
        sources: Modules, and folders whose modules all count.

    Raises:
        FileNotFoundError: There is no such module.
    """
    files = [file for path in sources for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    digest = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, Named) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(f"{file.parent.name}/{file.name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()[:DIGITS]
