"""A stage's folder in the store: training states while it runs, the finished weights when it is done.

``checkpoints/<stage>/<config hash>/``
    ``state-<step>.safetensors`` + ``state-<step>.json``  model, optimiser and random state; newest two kept, others
    removed, or emptied where nothing may be deleted; the JSON is written last and carries the digest, so that a
    half-written state is never read;
    ``model.safetensors``, ``config.json``, other files of the stage, and last ``result.json``: the commit.

Safetensors and JSON only; no pickle.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from crrg.config.references import StageResult
from crrg.errors import NonFiniteLoss, StorageError, TrainingError
from crrg.local_files import check_disk
from crrg.registry.matching_parts import noted_parts
from crrg.registry.stage_files import CONFIG_FILE, RESULT_FILE, WEIGHTS_FILE, read_stage_config, read_stage_file
from crrg.storage import Storage, canonical_json, hash_json
from crrg.training.ranks import wait_for_all
from crrg.training.state_files import NUM_STATES_KEPT, weights_key
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingState:
    """Everything needed to go on as if nothing had happened.

    Attributes:
        step: Steps done.
        tensors: ``model.*``, ``optimizer.*`` and ``rng.*``; ``best.*`` and ``average.*`` where the loop keeps them.
        values: Small JSON values: the learning-rate factor after roll-backs, their number, the best score so far,
            seconds trained, and the losses that are not reported yet.
        run_id: Tracked run; empty where there is none.
    """

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, float] = field(default_factory=dict)
    run_id: str = ""


class StageFolder:
    """The folder of one stage run, named by the hash of everything that decides its outcome."""

    def __init__(self, storage: Storage, stage: str, config_hash: str, dataset_version: str = "") -> None:
        """Name the folder; nothing is touched yet.

        Args:
            storage: Where ``checkpoints/`` lies.
            stage: Name of the stage.
            config_hash: Hash of everything that decides its outcome.
            dataset_version: What it is trained on, for its ``config.json``.
        """
        self.stage = stage
        self.config_hash = config_hash
        self.dataset_version = dataset_version
        self.prefix = f"checkpoints/{stage}/{config_hash}"
        self._storage = storage

    def result(self) -> StageResult | None:
        """Return the finished result, marked as reused, or ``None``; states that a kill right after it left go now."""
        key = f"{self.prefix}/{RESULT_FILE}"
        if not self._storage.exists(key):
            return None
        result = StageResult.model_validate(self._storage.get_json(key))
        self._discard(self._states())
        return result.model_copy(update={"reused": True})

    def begin_run(self, tracker: Tracker, params: Mapping[str, Any]) -> None:
        """Begin the stage's tracked run, or go on with the one that its newest state names.

        Args:
            tracker: Receives the stage's hash and settings.
            params: Settings.

        Raises:
            StorageError: The store or the tracking server is out of reach.
        """
        tracker.begin(self._last_run(), {"config_hash": self.config_hash})
        tracker.log_params(params)

    def check_room(self, state_bytes: int) -> None:
        """Check that the disk takes the states that are kept, and one more while it is written.

        Args:
            state_bytes: Bytes of one state.

        Raises:
            StorageError: It does not, code ``DISK.FULL``; of a store that is no disk nothing is asked.
        """
        if self._storage.is_local:
            num_more = max(1, NUM_STATES_KEPT + 1 - len(self._states()))
            check_disk(self._storage.root, f"stage {self.stage}", num_more * state_bytes)

    def save_state(self, state: TrainingState) -> None:
        """Write a training state and drop all but the newest two.

        Those of later steps go, too: they were damaged, or a roll-back went behind them.
        """
        data = save_tensors({name: tensor.contiguous() for name, tensor in state.tensors.items()})
        name = f"{self.prefix}/state-{state.step:08d}"
        self._storage.put(f"{name}.safetensors", data)
        digest = hashlib.sha256(data).hexdigest()
        record = {"step": state.step, "sha256": digest, "values": state.values, "run_id": state.run_id}
        self._storage.put_json(f"{name}.json", record)
        states = self._states()
        num_until_now = states.index(f"{name}.json") + 1
        self._discard(states[num_until_now:] + states[:num_until_now][:-NUM_STATES_KEPT])

    def latest_state(self) -> TrainingState | None:
        """Return the newest state whose digest holds, or ``None``.

        Raises:
            StorageError: The store is out of reach, which says nothing of the states.
        """
        for key in reversed(self._states()):
            try:
                record = self._storage.get_json(key)
                data = self._storage.get_verified(weights_key(key), record["sha256"])
            except (StorageError, ValueError, KeyError, TypeError) as error:
                if isinstance(error, StorageError) and error.retryable:
                    raise
                logger.warning("stage %s: training state skipped: %s", self.stage, error)
                continue
            return TrainingState(step=record["step"], tensors=load_tensors(data), values=record["values"])
        return None

    def finish(
        self,
        module: nn.Module,
        config: Mapping[str, Any],
        metrics: Mapping[str, float],
        *,
        files: Mapping[str, bytes] | None = None,
        duration_s: float = 0.0,
        run_id: str = "",
        beside: tuple[StageResult, ...] = (),
        trained_on: Mapping[str, StageResult] | None = None,
    ) -> StageResult:
        """Write the finished stage, its result last, and remove the training states.

        Args:
            module: Network; its state dict becomes ``model.safetensors``.
            config: Content of ``config.json``: ``architecture`` and the stage's thresholds and calibration; the folder
                adds its dataset version and the digests of ``trained_on``.
            metrics: Validation metrics.
            files: Further files by name, e.g. ``tokenizer.json``.
            duration_s: Wall time of the training.
            run_id: Tracking run.
            beside: Other parts of a bundle that were made with this one, written before.
            trained_on: Parts of a bundle that this one was trained on; no bundle holds it beside others.

        Raises:
            NonFiniteLoss: A weight is no number; nothing is written.
        """
        bad = non_finite(module.state_dict())
        if bad:
            raise NonFiniteLoss(
                f"{len(bad)} tensors of the trained network are not finite, the first is {bad[0]}; it is not kept: "
                "lower the learning rate, or look at the data of this stage",
                self.stage,
            )
        data = module_bytes(module)
        self._storage.put(f"{self.prefix}/{WEIGHTS_FILE}", data)
        learnt = {"dataset_version": self.dataset_version} if self.dataset_version else {}
        about = {**config, **learnt, **noted_parts(trained_on or {})}
        others = {CONFIG_FILE: canonical_json(about), **(files or {})}
        for name, content in others.items():
            self._storage.put(f"{self.prefix}/{name}", content)
        result = StageResult(
            stage=self.stage,
            prefix=self.prefix,
            sha256=hashlib.sha256(data).hexdigest(),
            config_hash=self.config_hash,
            metrics={name: float(value) for name, value in metrics.items()},
            duration_s=duration_s,
            run_id=run_id,
            beside=beside,
            files={name: hashlib.sha256(content).hexdigest() for name, content in others.items()},
        )
        self._storage.put_json(f"{self.prefix}/{RESULT_FILE}", result.model_dump(mode="json"))
        self._discard(self._states())
        return result

    def _last_run(self) -> str:
        """Return the tracked run of the newest state; empty where there is none, or its record is damaged."""
        states = self._states()
        if not states:
            return ""
        try:
            return str(self._storage.get_json(states[-1])["run_id"])
        except (StorageError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, StorageError) and error.retryable:
                raise
            return ""

    def _discard(self, states: Iterable[str]) -> None:
        """Remove training states; an identity that may not delete empties them, and ``crrg gc`` removes the rest."""
        for key in states:
            # the record last: whoever cleans up knows a state by it
            for each in (weights_key(key), key):
                if not self._storage.discard(each):
                    self._storage.put(each, b"")

    def _states(self) -> list[str]:
        """Return the keys of the records that are not emptied, those of fewer steps first."""
        stored = [item for item in self._storage.list_objects(self.prefix) if item.size]
        return [item.key for item in stored if "/state-" in item.key and item.key.endswith(".json")]


def config_hash(**parts: Any) -> str:
    """Return the hash that names a stage folder, over settings, dataset version and upstream digests (JSON values)."""
    return hash_json(parts)


def wait_for_result(folder: StageFolder) -> StageResult:
    """Return what the first rank writes, when it has.

    Raises:
        TrainingError: It has written nothing.
    """
    wait_for_all()
    result = folder.result()
    if result is None:
        raise TrainingError("the first rank has not finished; its own error says why", folder.stage)
    return result


def read_stage(storage: Storage, result: StageResult) -> tuple[dict[str, Any], bytes]:
    """Return a finished stage's ``config.json`` and its verified ``model.safetensors`` bytes.

    Raises:
        ModelError: The folder is incomplete.
        DigestMismatch: Weights or settings are not the recorded ones.
    """
    return read_stage_config(storage, result), read_stage_file(storage, result, WEIGHTS_FILE)


def module_bytes(module: nn.Module) -> bytes:
    """Return a network's state dict as safetensors; tied tensors are stored once each under every name."""
    return save_tensors({name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()})


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors with a value that is no number."""
    return [name for name, each in tensors.items() if each.is_floating_point() and not torch.isfinite(each).all()]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimiser's state to named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what ``optimizer_tensors`` flattened."""
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, field_name = name.split(".", 2)
            entries.setdefault(int(index), {})[field_name] = tensor
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
