"""The watch over a night before it is published: is it like the training population, and are its drafts drafts at all?

Reads what the shards wrote down and the night's own tables; changes nothing. What it finds lies as ``watch.json``
beside the night's page and is named by its manifest.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from crrg.config.references import BundleRef, NightPlan
from crrg.config.watch import NightWatch, WatchSettings
from crrg.data.map_ahead import map_ahead
from crrg.domain.labels import LABEL_COLUMNS, LABELS
from crrg.errors import DegenerateNight, StorageError
from crrg.ledger.beside import put_beside
from crrg.ledger.manifest import Manifest, run_prefix
from crrg.ledger.tables import TableFile, read_each
from crrg.monitoring.degenerate import find_faults, read_habits
from crrg.monitoring.drift import compare
from crrg.monitoring.quantities import DraftLook, draft_values, film_values
from crrg.monitoring.reference import Reference
from crrg.operations.night.records import InputOutcome
from crrg.registry.bundle import read_reference
from crrg.storage import Storage, canonical_json

logger = logging.getLogger(__name__)

WATCH_NAME = "watch.json"
NUM_NAMED = 5
NUM_NIGHTS = 7
"""Nights whose prevalence a night is shown beside."""
WATCHED_COLUMNS = [
    "instance_id", "is_primary", "findings", "impression", "consistency",
    *(f"{kind}_{column}" for kind in ("probability", "label") for column in LABEL_COLUMNS),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    patient_id: str
    is_primary: bool
    look: DraftLook


def watch_night(
    plan: NightPlan, outcomes: Sequence[InputOutcome], tables: Sequence[TableFile], storage: Storage
) -> NightWatch:
    """Compare a night with what its bundle was trained on.

    Args:
        plan: The night.
        outcomes: What became of its inputs.
        tables: Its tables.
        storage: The root.

    Returns:
        What was found.

    Raises:
        DegenerateNight: The drafts are no drafts, and the form does not say to publish them.
    """
    settings, drafted = plan.config.watch, {each.instance_id: each for each in outcomes if each.is_drafted}
    rows = list(_rows([file for file in tables if file.kind == "reports"], drafted, storage))
    reference = _read_reference(plan.bundle, storage)
    faults = _faults(rows, reference)
    if faults and settings.degenerate == "refuse":
        raise DegenerateNight(
            f"{'; '.join(faults)}; nothing was published. Go back with `crrg promote --rollback` and run the night "
            "again, or look at the bundle; `--degenerate publish` publishes the drafts as they are",
            f"night {plan.date}",
        )
    num_patients = len({row.patient_id for row in rows})
    watch = NightWatch(
        status=_status(settings, reference, num_patients),
        num_patients=num_patients,
        faults=faults,
        prevalence={
            label: round(sum(row.look.labels[place] for row in rows) / len(rows), 4)
            for place, label in enumerate(LABELS)
            if rows
        },
        num_drafts=len(rows),
        withheld="is degenerate" if faults else "",
    )
    if watch.status == "compared" and reference is not None:
        of_whom = {"reference_bundle_id": plan.bundle.bundle_id, "num_reference_patients": reference.num_film_patients}
        watch = _compared(watch.model_copy(update=of_whom), reference, outcomes, rows, settings)
    _say(plan, watch)
    return watch


def put_watch(plan: NightPlan, watch: NightWatch, storage: Storage) -> tuple[str, str]:
    """Write what was found beside the night's page; return its key and sha256."""
    key, data = f"{run_prefix(plan.date, plan.run_id)}/{WATCH_NAME}", canonical_json(watch.model_dump(mode="json"))
    return put_beside(storage, key, data), hashlib.sha256(data).hexdigest()


def read_watch(storage: Storage, manifest: Manifest) -> NightWatch | None:
    """Return what was found of a committed night; ``None`` for nights without a watch.

    Raises:
        DigestMismatch: It is not what its manifest recorded.
    """
    if not manifest.watch_key:
        return None
    return NightWatch.model_validate_json(
        storage.get_verified(manifest.watch_key, manifest.watch_sha256), extra="ignore"
    )


def find_watch(storage: Storage, manifest: Manifest) -> NightWatch | None:
    """Return what was found of a committed night, for figures that do without it where it is damaged or gone.

    Raises:
        StorageError: The root is out of reach.
    """
    try:
        return read_watch(storage, manifest)
    except StorageError as error:
        if error.retryable:
            raise
        logger.warning("what was found of night %s is left out: %s", manifest.date, error)
        return None


def remarks(watch: NightWatch | None) -> tuple[str, ...]:
    """Return what a reader of the night should know of it as a whole, as sentences."""
    if watch is None:
        return ()
    told = [f"Degenerate: {fault}." for fault in watch.faults]
    names = [f"{each.quantity} (index {each.psi:.2f})" for each in watch.flagged]
    if names:
        more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
        told.append(f"This night differs from what the models were trained on: {', '.join(names[:NUM_NAMED])}{more}.")
    if watch.withheld:
        told.append("Its drafts are withheld from delivery.")
    if watch.status == "no_reference":
        told.append("The bundle has no reference of its training, so the night was compared with nothing.")
    return tuple(told)


def usual_prevalence(storage: Storage, date: str, nights: Iterable[Manifest]) -> dict[str, float]:
    """Return each label's share of positive drafts over the last committed nights before a date, empty without one.

    Args:
        storage: The root.
        date: The date.
        nights: The committed runs of all nights.
    """
    earlier = [each for each in nights if each.date < date]
    dates = sorted({each.date for each in earlier})[-NUM_NIGHTS:]
    earlier = [each for each in earlier if each.date in dates]
    found = [watch for watch in map_ahead(partial(find_watch, storage), earlier) if watch is not None]
    num_drafts = sum(each.num_drafts for each in found)
    return {
        label: round(sum(each.prevalence.get(label, 0.0) * each.num_drafts for each in found) / num_drafts, 4)
        for label in LABELS
        if num_drafts
    }


def _read_reference(bundle: BundleRef, storage: Storage) -> Reference | None:
    data = read_reference(storage, bundle)
    return None if data is None else Reference.model_validate_json(data)


def _status(settings: WatchSettings, reference: Reference | None, num_patients: int) -> Any:
    if settings.drift == "off":
        return "off"
    if reference is None:
        return "no_reference"
    return "compared" if num_patients >= settings.min_patients else "too_few"


def _faults(rows: Sequence[_Row], reference: Reference | None) -> tuple[str, ...]:
    """Judge one draft per study: several films of one chest may well read alike."""
    primary = [row.look for row in rows if row.is_primary]
    night = read_habits([draft.text for draft in primary], [draft.labels for draft in primary])
    known = (None, None) if reference is None else (reference.reports, reference.drafts)
    return find_faults(night, *known)


def _compared(
    watch: NightWatch,
    reference: Reference,
    outcomes: Sequence[InputOutcome],
    rows: Sequence[_Row],
    settings: WatchSettings,
) -> NightWatch:
    # a lateral film is refused, but that it came says something of the night
    seen = [each for each in outcomes if each.is_drafted or each.reason.startswith("VIEW.")]
    looks = [each.look for each in seen if each.is_drafted and each.look is not None]
    drafts = [row.look for row in rows]
    of_known_maker = {
        each.patient_id for each in seen if each.is_drafted and each.look is not None and each.look.manufacturer
    }
    findings = compare(
        reference,
        film_values(looks, [each.view_position for each in seen if each.view_position]),
        draft_values(drafts),
        [draft.text for draft in drafts],
        (len({each.patient_id for each in seen}), watch.num_patients, len(of_known_maker)),
        settings,
    )
    stops = [each.quantity for each in findings if each.level == "stop"]
    if stops and settings.drift == "stop" and not watch.withheld:
        watch = watch.model_copy(update={"withheld": f"differs much from training: {', '.join(stops[:NUM_NAMED])}"})
    return watch.model_copy(update={"findings": findings})


def _rows(files: Iterable[TableFile], drafted: Mapping[str, InputOutcome], storage: Storage) -> Iterator[_Row]:
    """Yield what is watched of the night's own rows; one table is held at a time, and what many drafts say once."""
    texts: dict[str, str] = {}
    labels_seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    for row in (row for table in read_each(storage, files) for row in table.select(WATCHED_COLUMNS).to_pylist()):
        if row["instance_id"] in drafted:
            text = " ".join(filter(None, (row["findings"], row["impression"])))
            labels = tuple(row[f"label_{column}"] for column in LABEL_COLUMNS)
            look = DraftLook(
                text=texts.setdefault(text, text),
                consistency=row["consistency"],
                probabilities=array("d", [row[f"probability_{column}"] for column in LABEL_COLUMNS]),
                labels=labels_seen.setdefault(labels, labels),
            )
            yield _Row(drafted[row["instance_id"]].patient_id, row["is_primary"], look)


def _say(plan: NightPlan, watch: NightWatch) -> None:
    if watch.status == "no_reference":
        logger.warning("night %s: the bundle has no reference of its training, so the night is compared with "
                       "nothing; retrain for a bundle that has one", plan.date)  # fmt: skip
    if watch.reference_bundle_id:
        logger.info("night %s is compared with the training of bundle %s: %d patients",
                    plan.date, watch.reference_bundle_id, watch.num_reference_patients)  # fmt: skip
    for each in watch.flagged[:NUM_NAMED]:
        in_training, tonight = each.shown
        logger.warning("night %s differs from training: %s, index %.2f (%s, in training %s)",
                       plan.date, each.quantity, each.psi, tonight, in_training)  # fmt: skip
    for fault in watch.faults:
        logger.warning("night %s: %s; published because the form says so", plan.date, fault)
