"""What benchmarks find in a root that a demo made."""

from __future__ import annotations

from crrg.config.references import BundleRef
from crrg.storage import Storage


def find_bundle(storage: Storage, name: str = "") -> BundleRef:
    """Return the bundle that a name or folder means, or else the first of the root."""
    found = name or next(iter(sorted(storage.list_folder("models/bundles"))))
    bundle_id = found.rstrip("/").rsplit("/", 1)[-1]
    return BundleRef(bundle_id=bundle_id, prefix=f"models/bundles/{bundle_id}")
