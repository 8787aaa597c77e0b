"""What the page of an older night says of drafts that newer ones replaced.

It is said by one small script beside the page (``SUPERSEDED_FILE``), so that the page says it wherever it is opened
from. That script alone of all objects of a run is written again in its place: the newer draft is committed by then, so
what it says is true whether or not the step comes to its end. Hence no index records its digest; its manifest names
it (``replaced_key``) and what it says once the step is done (``marks``).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from crrg.errors import StorageError
from crrg.exports.superseded import Replacement, read_superseded, superseded_script
from crrg.ledger.manifest import Manifest
from crrg.storage import Storage, hash_json

Marks = Mapping[str, Replacement]
"""Image to the run whose draft replaced the one of it."""


def find_marks(manifests: Iterable[Manifest]) -> dict[tuple[str, str], dict[str, Replacement]]:
    """Return what nights say of each other: the marks of every run, by date and run, that has replaced drafts.

    Args:
        manifests: What counts of all nights, in the order of commits.
    """
    marks: dict[tuple[str, str], dict[str, Replacement]] = defaultdict(dict)
    for manifest in manifests:
        newer = Replacement(manifest.date, manifest.run_id, manifest.review_key)
        for each in manifest.superseded:
            marks[each.date, each.run_id].setdefault(each.instance_id, newer)
    return dict(marks)


def marks_digest(marks: Marks) -> str:
    """Return the digest of marks as manifests record it; empty where there are none."""
    return hash_json({name: list(each) for name, each in marks.items()}) if marks else ""


def put_marks(storage: Storage, manifest: Manifest, marks: Marks, list_name: str = "") -> dict[str, str]:
    """Let a run's page say its marks; return the sha256 of what was written, by key.

    Args:
        storage: The root.
        manifest: The run; one without page, or with one that does not say it, is left alone.
        marks: All of them.
        list_name: Name of the work list that says the same; the usual one if empty.
    """
    if not manifest.replaced_key:
        return {}
    data = superseded_script(marks, list_name)
    storage.put(manifest.replaced_key, data)
    return {manifest.replaced_key: hashlib.sha256(data).hexdigest()}


def read_marks(storage: Storage, manifest: Manifest) -> dict[str, Replacement] | None:
    """Return what a run's page says; ``None`` where it says nothing or is damaged.

    Raises:
        StorageError: The root is out of reach.
    """
    if not manifest.replaced_key:
        return None
    try:
        return read_superseded(storage.get(manifest.replaced_key))
    except StorageError as error:
        if error.retryable:
            raise
        return None
    except (ValueError, TypeError):
        return None


def is_told(storage: Storage, manifest: Manifest, marks: Marks) -> bool:
    """Return whether a run's page says what its manifest recorded, or is ahead of it with nothing but the truth.

    Args:
        storage: The root.
        manifest: The run.
        marks: What newer nights committed of it.

    Raises:
        StorageError: The root is out of reach.
    """
    if not manifest.replaced_key:
        return True
    said = read_marks(storage, manifest)
    if said is None:
        return False
    # a step that was cut off, or has yet to come, is told by the digest: then the page may know of some already
    is_open = manifest.marks != marks_digest(marks)
    is_true = all(name in marks and marks[name].run_id == each.run_id for name, each in said.items())
    return marks_digest(said) == manifest.marks or (is_open and is_true)
