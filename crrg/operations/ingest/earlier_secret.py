"""Patients who were forgotten before the secret was changed, and whom no night showed to ``crrg rekey``.

An ingest sees what an archive calls its patients. With the secret before beside the present one it tells who was
forgotten under that, and carries them over (``crrg.data.privacy.forgotten``), so that later ingests and nights tell
them without it. Without it they would come in: a dataset is not begun under a new secret then.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import list_versions
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import ForgottenPatients, carry_over, read_left_behind
from crrg.errors import ConfigError, StorageError
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage

logger = logging.getLogger(__name__)


def check_all_told(config: IngestConfig, storage: Storage, pseudonyms: Pseudonyms) -> str:
    """Check that a dataset that is begun under a secret gets no patient who was forgotten under an earlier one.

    Args:
        config: The form.
        storage: The root.
        pseudonyms: The present secret, with the one before where that is given.

    Returns:
        ``key_id`` of the secret before if patients are told by that alone, so that who reads films must have it.

    Raises:
        ConfigError: Patients were forgotten under a secret that is not given, and the form does not say that they may
            come in.
    """
    if not config.new_secret and list_versions(storage, config.dataset):
        return ""
    untold, given = Counter(read_left_behind(storage, pseudonyms).values()), _earlier_of(pseudonyms)
    needed = given if untold.pop(given, 0) else ""
    if not untold:
        return needed
    secrets = ", ".join(sorted(untold))
    reason = f"{untold.total()} patients were forgotten under secret {secrets}, without which their films come in"
    if not config.forgotten_may_return:
        raise ConfigError(
            f"{reason}; give it as CRRG_OLD_HMAC_KEY or, where it is lost, say --forgotten-may-return, and forget them "
            "again where they do",
            f"dataset {config.dataset}",
        )
    logger.warning("dataset %s: %s", config.dataset, reason)
    return needed


def check_has_earlier(key_id: str, pseudonyms: Pseudonyms, subject: str) -> None:
    """Check that a process that reads films has the secret before on which ``check_all_told`` counted.

    Args:
        key_id: What that returned.
        pseudonyms: The present secret, with the one before where that is given.
        subject: What is read, for the message.

    Raises:
        ConfigError: It does not have it.
    """
    if key_id not in ("", _earlier_of(pseudonyms)):
        reason = f"patients were forgotten under secret {key_id}, without which their films come in"
        raise ConfigError(f"{reason}; give this machine, too, that secret as CRRG_OLD_HMAC_KEY", subject)


def carry_over_met(storage: Storage, forgotten: ForgottenPatients) -> ForgottenPatients:
    """Let those who were told by the secret before be told by the present one alone from now on.

    Args:
        storage: The root.
        forgotten: What films were compared with.

    Returns:
        The same with the tombstones that were written; none where this process may write none, which is logged.

    Raises:
        StorageError: The root is out of reach, or takes nothing for another reason.
    """
    try:
        carry_over(storage, forgotten.pseudonyms, forgotten.met)
    except StorageError as error:
        if error.code != ACCESS_DENIED:
            raise
        logger.warning(
            "%d patients who were forgotten under the secret before were refused, but this identity may not note that "
            "under the present one (control/forgotten): go on giving CRRG_OLD_HMAC_KEY to ingests and nights",
            len(forgotten.met),
        )
        return forgotten
    written = {forgotten.pseudonyms.tombstone(patient_id) for patient_id in forgotten.met.values()}
    return replace(forgotten, tombstones=forgotten.tombstones | written)


def _earlier_of(pseudonyms: Pseudonyms) -> str:
    return pseudonyms.earlier.key_id if pseudonyms.earlier is not None else ""
