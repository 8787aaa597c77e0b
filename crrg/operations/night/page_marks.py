"""What the page of an older night says of drafts that newer ones replaced.

It is said by one small script beside the page (``SUPERSEDED_FILE``), so that the page says it wherever it is opened
from. That script alone of all objects of a run is written again in its place, once the manifest that records what it is
to say (``marks``) is committed: a holder that was frozen and is refused takes nothing back. Hence no index records its
digest; its manifest names it (``replaced_key``). A page that is behind is told anew by the next night.
"""

from __future__ import annotations

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


def marks_scripts(manifest: Manifest, marks: Marks, list_name: str = "") -> dict[str, bytes]:
    """Return what lets a run's page say its marks, by key.

    Args:
        manifest: The run; of one without page, or with one that does not say it, there is nothing.
        marks: All of them.
        list_name: Name of the work list that says the same; the usual one if empty.
    """
    return {manifest.replaced_key: superseded_script(marks, list_name)} if manifest.replaced_key else {}


def put_marks(storage: Storage, scripts: Mapping[str, bytes]) -> None:
    """Let a run's page say its marks, which its manifest has recorded."""
    for key, data in scripts.items():
        storage.put(key, data)


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


def is_told(storage: Storage, manifest: Manifest, marks: Marks, *, is_open: bool = False) -> bool:
    """Return whether a run's page says what its manifest recorded; while it is being told, nothing but the truth.

    Args:
        storage: The root.
        manifest: The run.
        marks: What newer nights committed of it.
        is_open: Whether an older commit of the run is not sealed yet: the page may be behind.

    Raises:
        StorageError: The root is out of reach.
    """
    if not manifest.replaced_key:
        return True
    said = read_marks(storage, manifest)
    if said is None:
        return False
    # marks that have yet to be made are told by the digest
    may_differ = is_open or manifest.marks != marks_digest(marks)
    is_true = all(name in marks and marks[name].run_id == each.run_id for name, each in said.items())
    return marks_digest(said) == manifest.marks or (may_differ and is_true)
