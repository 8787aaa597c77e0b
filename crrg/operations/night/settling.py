"""What a night takes of what is new: settled films whose studies have settled too, up to its limit.

A study waits until none of its objects is younger than the settling time, so that a night does not draft half of it.
Which study a film belongs to stands in its header alone, so headers are read here, and only where they decide: those
of young films, and, if one of them names a study, those of the new films beside it, a few kilobytes each. A film
without header (PNG, JPEG) is a study of its own. What a person asks to read again does not wait.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

from crrg.data.dicom.study_words import find_study_words
from crrg.data.map_ahead import map_ahead
from crrg.ledger.inventory import InboxObject, Inventory, is_young
from crrg.storage import Storage

logger = logging.getLogger(__name__)


def take_settled(
    inventory: Inventory,
    objects: Sequence[InboxObject],
    inbox: Storage,
    *,
    now_s: float,
    settle_s: float,
    limit: int = 0,
) -> Inventory:
    """Leave pending what belongs to a study that is still arriving, and what exceeds the limit.

    Args:
        inventory: What is new; its young objects are pending already.
        objects: All that lies in the inbox: a young film that the ledger knows holds its study back as well.
        inbox: The inbox.
        now_s: Present time by the store's clock, seconds since the epoch.
        settle_s: Age from which an object counts as completely written, seconds.
        limit: Most new objects; 0 takes all.

    Raises:
        StorageError: The inbox is out of reach.
    """
    young = [found for found in objects if is_young(found, now_s, settle_s)] if inventory.new else []
    arriving = {study for _, study in _with_studies(young, inbox)} - {""}
    if not arriving:
        return inventory.taking(inventory.new[:limit]) if limit else inventory
    settled = (found for found, study in _with_studies(inventory.new, inbox) if study not in arriving)
    taken = inventory.taking(islice(settled, limit or None))
    num_left = len(inventory.new) - len(taken.new)
    logger.info("%d settled objects wait: their studies are still arriving, or the night is full", num_left)
    return taken


def _with_studies(objects: Sequence[InboxObject], inbox: Storage) -> Iterator[tuple[InboxObject, str]]:
    """Yield objects with the UID of their study, empty where they name none; it never leaves this process."""
    with closing(map_ahead(lambda found: _study_of(found, inbox), objects)) as studies:
        yield from zip(objects, studies, strict=True)


def _study_of(found: InboxObject, inbox: Storage) -> str:
    return find_study_words(inbox, found.key, found.size).study_instance_uid
