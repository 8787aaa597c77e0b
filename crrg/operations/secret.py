"""One secret at a time: ids that two secrets made must not meet, since the same patient would be two.

Every night and every dataset version says by eight digits which secret made its pseudonyms.
"""

from __future__ import annotations

from crrg.data.deidentify import Pseudonyms
from crrg.data.pairs import list_versions, newest_version, read_manifest, resolve_dataset
from crrg.errors import ConfigError
from crrg.ledger.manifest import read_manifests
from crrg.storage import Storage


def check_secret(storage: Storage, pseudonyms: Pseudonyms) -> None:
    """Refuse to add to nights that another secret made, or to ask them.

    Args:
        storage: The root.
        pseudonyms: The secret of this process.

    Raises:
        ConfigError: Nights were made with another secret; those from before it was noted are believed.
    """
    others = {manifest.key_id for manifest in read_manifests(storage)} - {"", pseudonyms.key_id}
    if others:
        raise ConfigError(
            f"the nights of this root were made with secret {', '.join(sorted(others))}, this process has "
            f"{pseudonyms.key_id}; give that secret, or change over with crrg rekey",
            "CRRG_HMAC_KEY",
        )


def check_dataset_secret(storage: Storage, name: str, pseudonyms: Pseudonyms) -> None:
    """Refuse to follow a dataset version with one whose ids another secret makes.

    Args:
        storage: The root.
        name: Dataset name.
        pseudonyms: The secret of this process.

    Raises:
        ConfigError: The newest version was made with another secret.
    """
    if newest_version(storage, name) not in list_versions(storage, name):
        return
    settings = read_manifest(storage, resolve_dataset(storage, name))["settings"]
    found = settings.get("pseudonym_key_id", pseudonyms.key_id)
    if found != pseudonyms.key_id:
        raise ConfigError(
            f"its newest version was made with secret {found}, this process has {pseudonyms.key_id}; give that secret, "
            "or ingest with --new-secret if it was changed",
            f"dataset {name}",
        )
