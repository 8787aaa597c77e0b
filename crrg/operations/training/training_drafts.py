"""Drafts of a dataset's training films, written by a bundle: what the joint stage reads beside their reports.

A version of ``draft_store`` under ``models/drafts/<bundle id>/<dataset>-<version>-train-<how>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from crrg.config.models import DecodingSettings
from crrg.config.references import DatasetRef
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.nbest import DraftsOrigin
from crrg.domain.study import Film, Split
from crrg.operations.drafter import Drafter
from crrg.operations.training.draft_store import DraftFolder, draft_films, how_drafted
from crrg.storage import Storage


@dataclass(frozen=True)
class TrainingDrafts:
    """A finished version of drafts.

    Attributes:
        origin: Which version, and who drafted.
        texts: Instance id to findings and impression, empty where the draft says nothing.
    """

    origin: DraftsOrigin
    texts: dict[str, str]


def draft_training_films(
    dataset: DatasetRef,
    bundle_id: str,
    decoding: DecodingSettings,
    storage: Storage,
    make_drafter: Callable[[], Drafter],
) -> TrainingDrafts:
    """Draft every frontal training film of a dataset that has no draft of this bundle yet.

    Args:
        dataset: Whose training films.
        bundle_id: Who drafts.
        decoding: How it searches.
        storage: Root with the dataset; keeps the drafts.
        make_drafter: Builds the bundle's pipeline; called only if there is something to draft.

    Raises:
        DigestMismatch: A part is not the one that the manifest names, or holds drafts of other films.
    """
    name = f"{dataset.name}-{dataset.version}-{Split.TRAIN.value}-{how_drafted(decoding)}"
    folder = DraftFolder(dataset, bundle_id, decoding, name)
    drafter = cache(make_drafter)
    texts: dict[str, str] = {}

    def draft(films: Sequence[Film]) -> list[Mapping[str, Any]]:
        return [{"findings": made.findings, "impression": made.impression} for made in drafter().draft(films)]

    def take(row: Mapping[str, Any]) -> None:
        texts[row["instance_id"]] = " ".join(filter(None, (row["findings"], row["impression"])))

    films = sampled_films(storage, dataset, Split.TRAIN)
    origin = draft_films(folder, films, storage, draft, take, dataset.num_rows[Split.TRAIN.value])
    return TrainingDrafts(origin, texts)
