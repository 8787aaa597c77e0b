"""Opens the archive that a source string names: ``URL``, or ``kind:URL`` where the kind is not to be guessed.

The kind ``some-name`` is the class ``SomeNameSource`` in ``crrg.data.archives.some_name``; only drawn cohorts are read
beside what draws them. Nothing else of an archive is known here.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from crrg.config.base import StorageSettings
from crrg.config.data import IngestConfig
from crrg.data.archives.sources import CutsReports, Source, SourceOpener
from crrg.domain.source_kind import AUTO, SourceKind
from crrg.errors import ConfigError
from crrg.local_files import check_folder
from crrg.storage import Storage


def open_sources(config: IngestConfig, settings: StorageSettings | None = None) -> list[Source]:
    """Open all archives of an ingest, to be read as its form says.

    Args:
        config: The form.
        settings: How to reach S3.

    Raises:
        ConfigError: There is nothing at a URL.
    """
    sources = [open_source(text, config.source_kind, settings) for text in config.source]
    for source in sources:
        if isinstance(source, CutsReports):
            source.section_mode = config.report_sections
    return sources


def open_source(text: str, kind: str = AUTO, settings: StorageSettings | None = None) -> Source:
    """Open an archive.

    Args:
        text: ``URL`` or ``kind:URL``.
        kind: Kind for a plain URL; ``auto`` looks at what lies there.
        settings: How to reach S3.

    Raises:
        ConfigError: There is nothing at the URL, or a file.
    """
    if not text.strip():
        raise ConfigError("an address is empty (unset variable?); use . for the current folder", "source")
    head, _, rest = text.partition(":")
    if rest and head in list(SourceKind):
        kind, text = head, rest
    storage = Storage(text, settings).without_names()
    check_folder(storage.root, "source")
    names = storage.list_folder()
    if not names:
        raise ConfigError("there is nothing to ingest at this address; check it and the credentials", "source")
    return source_class(detect_kind(storage, names) if kind == AUTO else SourceKind(kind))(storage)


def detect_kind(storage: Storage, names: list[str]) -> SourceKind:
    """Return the kind of archive at a root: the first in the order of ``SourceKind`` that recognises it as its own.

    Args:
        storage: The root.
        names: Names directly under it, of objects and of folders.
    """
    for kind in SourceKind:
        if source_class(kind).recognises(storage, names):
            return kind
    raise AssertionError("unreachable: the last kind takes anything")


def source_class(kind: SourceKind) -> SourceOpener:
    """Return the class that reads a kind of archive; only its module is imported."""
    module_name = kind.value.replace("-", "_")
    is_drawn = kind is SourceKind.PHANTOM
    module = import_module("crrg.data.phantom.source" if is_drawn else f"crrg.data.archives.{module_name}")
    return cast("SourceOpener", getattr(module, f"{module_name.title().replace('_', '')}Source"))
