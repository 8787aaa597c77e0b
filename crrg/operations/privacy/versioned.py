"""Whether a bucket keeps old versions: then what is removed there can still be read by whoever may read versions.

Only the bucket itself can end them, by a rule (``docs/operations/patients.md``); this program deletes no versions,
since its identities may not. Folders keep none.
"""

from __future__ import annotations

from collections.abc import Mapping

from crrg.retries import is_transient
from crrg.storage import Storage

WAY_OUT = (
    "give it a lifecycle rule NoncurrentVersionExpiration that ends them (docs/operations/patients.md, versioned "
    "buckets), or delete the old versions by hand"
)


def kept_versions(places: Mapping[str, Storage]) -> tuple[str, ...]:
    """Return a sentence for each place whose bucket keeps, or may keep, old versions of what is removed there.

    Args:
        places: What each is called in the sentence, and where it is.
    """
    told = []
    for name, storage in places.items():
        status = _status(storage)
        if status in ("Enabled", "Suspended"):
            told.append(f"The bucket of the {name} keeps old versions: what was removed can still be read; {WAY_OUT}.")
        elif status is None:
            told.append(
                f"Whether the bucket of the {name} keeps old versions could not be asked (s3:GetBucketVersioning); "
                f"if it does: {WAY_OUT}."
            )
    return tuple(told)


def _status(storage: Storage) -> str | None:
    """Return what a bucket says, empty where it never kept versions; ``None`` where it does not say."""
    if not storage.root.startswith("s3://"):
        return ""
    bucket = storage.root.removeprefix("s3://").partition("/")[0]
    try:
        return str(storage.filesystem.call_s3("get_bucket_versioning", Bucket=bucket).get("Status", ""))
    except Exception as error:
        if is_transient(error):  # a refusal too: this question is asked beside the work and must not end it
            return None
        raise
