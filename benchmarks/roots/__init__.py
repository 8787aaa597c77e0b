"""What benchmarks find in a root that a demo made."""

from __future__ import annotations

import logging

from crrg.config.base import Settings
from crrg.config.references import BundleRef
from crrg.errors import ModelError
from crrg.registry.aliases import resolve_bundle
from crrg.registry.bundle import BUNDLE_FILE
from crrg.storage import Storage
from crrg.tracking.models import PIPELINE_MODEL

logger = logging.getLogger(__name__)

FOLDER = "models/bundles"
CHAMPION = f"models:/{PIPELINE_MODEL}@champion"


def find_bundle(storage: Storage, name: str = "") -> BundleRef:
    """Return the bundle that an id or folder means, or else the champion, or where there is none the newest bundle.

    A bundle is as old as its ``bundle.json``, which is written last.

    Args:
        storage: Root.
        name: Id or folder under ``models/bundles``; empty where none was chosen.

    Raises:
        ModelError: None was chosen and the root holds no bundle.
    """
    if name:
        bundle_id = name.rstrip("/").rsplit("/", 1)[-1]
        return BundleRef(bundle_id=bundle_id, prefix=f"{FOLDER}/{bundle_id}")
    try:
        return resolve_bundle(CHAMPION, storage, Settings()).ref
    except ModelError as error:
        logger.info("no champion, so the newest bundle is taken: %s", error)
    manifests = [found for found in storage.list_objects(FOLDER) if found.key.endswith(f"/{BUNDLE_FILE}")]
    if not manifests:
        raise ModelError(
            f"there is no bundle under {FOLDER}; make one with `crrg demo --root ROOT` or `crrg retrain`, or name the "
            "root that has one",
            storage.root,
        )
    newest = max(manifests, key=lambda found: (found.modified_s, found.key))
    return find_bundle(storage, newest.key.removesuffix(f"/{BUNDLE_FILE}"))
