"""Opens the archive that a source string names: ``URL``, or ``kind:URL`` where the kind is not to be guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crrg.config.base import StorageSettings
from crrg.data.folder import FolderSource
from crrg.data.openi import OpeniSource
from crrg.data.phantom.source import PhantomSource
from crrg.data.sources import Source, SourceKind
from crrg.errors import ConfigError
from crrg.storage import Storage, StoredObject

_OPENERS: Mapping[SourceKind, Callable[[Storage], Source]] = {
    SourceKind.PHANTOM: PhantomSource,
    SourceKind.FOLDER: FolderSource,
    SourceKind.OPENI: OpeniSource,
}


def open_source(text: str, kind: str = "auto", settings: StorageSettings | None = None) -> Source:
    """Open an archive.

    Args:
        text: ``URL`` or ``kind:URL``.
        kind: Kind for a plain URL; ``auto`` looks at what lies there.
        settings: How to reach S3.

    Raises:
        ConfigError: There is nothing at the URL.
    """
    head, _, rest = text.partition(":")
    if rest and head in list(SourceKind):
        kind, text = head, rest
    storage = Storage(text, settings)
    objects = storage.list_objects()
    if not objects:
        raise ConfigError("there is nothing to ingest at this address; check it and the credentials", "source")
    return _OPENERS[detect_kind(storage, objects) if kind == "auto" else SourceKind(kind)](storage)


def detect_kind(storage: Storage, objects: list[StoredObject]) -> SourceKind:
    """Return the kind of archive that these objects under a root are."""
    if PhantomSource.recognises(objects):
        return SourceKind.PHANTOM
    return SourceKind.OPENI if OpeniSource.recognises(storage, objects) else SourceKind.FOLDER
