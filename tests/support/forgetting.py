"""For tests of removals and of a changed secret: the settings of before, and a search of a whole root for names."""

from __future__ import annotations

import io
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from crrg.config.base import Settings
from crrg.data.decoding.pool import decode_many
from crrg.ledger.manifest import Manifest
from crrg.operations.ingest import run as ingest_run
from crrg.operations.night import feed as night_feed
from crrg.operations.night import rewrite as night_rewrite
from crrg.storage import Storage
from tests.support.keys import KEY

SETTINGS = Settings(hmac_key=KEY)  # type: ignore[arg-type]


def decode_here(patch: pytest.MonkeyPatch) -> None:
    """Decode in this process; children are the subject of other tests."""
    patch.setattr(night_feed, "default_num_workers", lambda: 0)
    patch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))


def cut_after_a_night(change: Callable[[], object]) -> None:
    """Let a change of all nights be killed when it has rewritten one of them and commits the next."""
    commit, committed = night_rewrite.commit_manifest, []

    def cut(storage: Storage, manifest: Manifest) -> str:
        if committed:
            raise KeyboardInterrupt
        committed.append(manifest)
        return commit(storage, manifest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(night_rewrite, "commit_manifest", cut)
        with pytest.raises(KeyboardInterrupt):
            change()


def texts_of(root: Storage) -> dict[str, str]:
    """Return every object of a root as one text: of tables all values, of other files their bytes."""
    texts = {}
    for stored in root.list_objects():
        data = root.get(stored.key)
        if stored.key.endswith(".parquet"):
            data = repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode() + data
        texts[stored.key] = data.decode("latin-1")
    return texts


def found_of(root: Storage, names: set[str]) -> list[str]:
    """Return the keys of the objects that hold one of the names, in what they say or in their key."""
    texts = texts_of(root)
    return sorted({key for key, text in texts.items() for name in names if name in text or name in key})
