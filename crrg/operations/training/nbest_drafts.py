"""N-best drafts of training films: what the joint rounds rank, learn from and mix with reports.

A version of ``draft_store`` under ``models/drafts/<bundle id>/<dataset>-<version>-train-nbest-<films>-<how>``, with all
wordings of every region and their scores. Where not all films are asked for, they are spread over the dataset
(``crrg.data.dataset.spaced``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Protocol

import pyarrow as pa

from crrg.config.models import DecodingSettings
from crrg.config.references import DatasetRef
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.nbest import DraftsOrigin, NBestDraft, Wording
from crrg.domain.study import Film, Split
from crrg.operations.training.draft_store import NBEST, SCHEMA, DraftFolder, draft_films, how_drafted
from crrg.storage import Storage

_WORDING = pa.struct(
    [pa.field("text", pa.string()), pa.field("score", pa.float32()), pa.field("logprob", pa.float32())]
)
_WORDINGS = pa.struct([pa.field("region_index", pa.int32()), pa.field("wordings", pa.list_(_WORDING))])
NBEST_SCHEMA = SCHEMA.append(pa.field("regions", pa.list_(_WORDINGS), nullable=False))


class NBestDrafter(Protocol):
    """Drafts with all wordings; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    def draft_nbest(self, films: Sequence[Film]) -> list[NBestDraft]:
        """Return one draft per film, of at least one."""


@dataclass(frozen=True)
class NBestDataset:
    """A finished version of drafts.

    Attributes:
        origin: Which version, and who drafted.
        drafts: Instance id to draft, in the order of the films.
    """

    origin: DraftsOrigin
    drafts: dict[str, NBestDraft]

    def texts(self) -> dict[str, str]:
        """Return instance id to findings and impression."""
        return {instance_id: draft.text for instance_id, draft in self.drafts.items()}


def draft_nbest(
    dataset: DatasetRef,
    bundle_id: str,
    decoding: DecodingSettings,
    storage: Storage,
    make_drafter: Callable[[], NBestDrafter],
    *,
    limit: int = 0,
) -> NBestDataset:
    """Draft frontal training films that this bundle has not drafted yet, and return all of its drafts.

    Args:
        dataset: Whose training films.
        bundle_id: Who drafts.
        decoding: How it searches.
        storage: Root with the dataset; keeps the drafts.
        make_drafter: Builds the drafter; called only if there is something to draft.
        limit: Most films; 0 takes all.

    Raises:
        DigestMismatch: A part is not the one that the manifest names, or holds drafts of other films.
    """
    how = how_drafted(decoding, films="spaced", wordings="scored")
    name = f"{dataset.name}-{dataset.version}-{Split.TRAIN.value}-{NBEST}-{limit or 'all'}-{how}"
    folder = DraftFolder(dataset, bundle_id, decoding, name, NBEST_SCHEMA)
    drafter = cache(make_drafter)
    drafts: dict[str, NBestDraft] = {}

    def draft(films: Sequence[Film]) -> list[Mapping[str, Any]]:
        return [_row(made) for made in drafter().draft_nbest(films)]

    def take(row: Mapping[str, Any]) -> None:
        hypotheses = {found["region_index"]: tuple(Wording(**e) for e in found["wordings"]) for found in row["regions"]}
        drafts[row["instance_id"]] = NBestDraft(row["findings"], row["impression"], hypotheses)

    num_rows = dataset.num_rows[Split.TRAIN.value]
    films = sampled_films(storage, dataset, Split.TRAIN, limit)
    return NBestDataset(draft_films(folder, films, storage, draft, take, min(limit or num_rows, num_rows)), drafts)


def _row(draft: NBestDraft) -> dict[str, Any]:
    regions = [
        {"region_index": region, "wordings": [asdict(each) for each in found]}
        for region, found in sorted(draft.hypotheses.items())
    ]
    return {"findings": draft.findings, "impression": draft.impression, "regions": regions}
