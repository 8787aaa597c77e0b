"""One secret at a time: ids that two secrets made must not meet, since the same patient would be two.

Every night and every dataset version says by eight digits which secret made its pseudonyms.
"""

from __future__ import annotations

from crrg.data.dataset.pairs import list_versions, newest_version, read_manifest, resolve_dataset
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.ledger.manifest import Manifest, read_manifests
from crrg.storage import Storage


def check_secret(storage: Storage, pseudonyms: Pseudonyms) -> list[Manifest]:
    """Refuse to add to nights that another secret made, or to ask them; return the committed runs of all nights.

    Args:
        storage: The root.
        pseudonyms: The secret of this process.

    Raises:
        ConfigError: Nights were made with another secret; those from before it was noted are believed.
    """
    nights = read_manifests(storage)
    others = {manifest.key_id for manifest in nights} - {"", pseudonyms.key_id}
    if others:
        raise ConfigError(
            f"the nights of this root were made with secret {', '.join(sorted(others))}, this process has "
            f"{pseudonyms.key_id}; give that secret, or change over with crrg rekey",
            "CRRG_HMAC_KEY",
        )
    return nights


def versions_of_others(storage: Storage, name: str, pseudonyms: Pseudonyms) -> dict[str, str]:
    """Return the versions of a dataset that other secrets made, and which ones; retired ones do not count.

    Args:
        storage: The root.
        name: Dataset name.
        pseudonyms: The secret of this process; versions from before it was noted are believed.
    """
    found = {}
    for version in list_versions(storage, name):
        settings = read_manifest(storage, resolve_dataset(storage, name, version))["settings"]
        if (key_id := settings.get("pseudonym_key_id", pseudonyms.key_id)) != pseudonyms.key_id:
            found[version] = key_id
    return found


def check_every_dataset_secret(storage: Storage, pseudonyms: Pseudonyms) -> None:
    """Refuse to look for patients where another secret named them: they would not be found.

    Args:
        storage: The root.
        pseudonyms: The secret of this process.

    Raises:
        ConfigError: A dataset version was made with another secret.
    """
    for name in storage.list_folder("datasets"):
        for version, key_id in versions_of_others(storage, name, pseudonyms).items():
            raise ConfigError(
                f"version {version} was made with secret {key_id}, this process has {pseudonyms.key_id}, under which "
                "nobody is found in it; ingest its archive with --new-secret, which retires it, or, where the archive "
                "is gone, delete the folder of the version",
                f"dataset {name}",
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
