"""The index of a run: the digest of every document, picture and page, as one JSON object that its manifest names."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping

from crrg.ledger.beside import put_beside
from crrg.storage import Storage, canonical_json


class ObjectIndex:
    """What an index will say; kept as its text, since a night has several objects per study."""

    def __init__(self, entries: Mapping[str, str] | None = None) -> None:
        """Begin with some objects.

        Args:
            entries: sha256 by key.
        """
        self._lines: list[bytes] = []
        self.add(entries or {})

    def add(self, entries: Mapping[str, str]) -> None:
        """Add objects that are not in it.

        Args:
            entries: sha256 by key.
        """
        self._lines += [canonical_json(key) + b":" + canonical_json(digest) for key, digest in entries.items()]

    def copy(self) -> ObjectIndex:
        """Return an index of the same objects that others may be added to."""
        other = ObjectIndex()
        other._lines = [*self._lines]
        return other

    def put(self, storage: Storage, key: str) -> tuple[str, str]:
        """Write the index, in the order of its keys, where nothing else lies; return its own key and sha256.

        It is empty afterwards.
        """
        # keys hold no character before the quote that ends them, so that text and keys have one order
        self._lines.sort(reverse=True)
        text = io.BytesIO()
        text.write(b"{")
        while self._lines:
            # let go of one by one, so that no night is held twice
            text.write(self._lines.pop() + (b"," if self._lines else b""))
        text.write(b"}")
        data = text.getvalue()
        return put_beside(storage, key, data), hashlib.sha256(data).hexdigest()
