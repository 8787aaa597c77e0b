"""What may be set about where shards run; nothing here knows Prefect or Ray."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from crrg.config.base import FrozenConfig
from crrg.errors import ConfigError


class FanOut(FrozenConfig):
    """Where the shards of an ingest or a night run; what they make is the same everywhere.

    Attributes:
        task_runner: ``here`` works in this process and its decoder processes, ``processes`` runs shards in processes
            of this machine, ``ray`` on every machine of a Ray cluster, ``flow`` in the task runner that the flow has.
        max_processes: Most shards at a time under ``processes``; 0 takes what suits this machine.
        ray_address: The cluster, ``host:6379`` on one of its machines or ``ray://host:10001``; empty starts Ray on
            this machine for the run.
        gpus_per_shard: GPUs that Ray keeps for a shard and shows it; one half lets two shards share one. With 0 every
            shard sees all GPUs of its machine.
    """

    task_runner: Literal["here", "processes", "ray", "flow"] = Field(
        "here", title="Run shards", json_schema_extra={"position": 0}
    )
    max_processes: int = Field(0, ge=0, le=256, title="Processes (0 = auto)", json_schema_extra={"position": 1})
    ray_address: str = Field("", title="Address of the Ray cluster", json_schema_extra={"position": 2})
    gpus_per_shard: float = Field(0.0, ge=0, le=8, title="GPUs per shard on Ray", json_schema_extra={"position": 3})

    @model_validator(mode="after")
    def _an_address_is_of_ray(self) -> Self:
        if self.ray_address and self.task_runner != "ray":
            raise ConfigError(
                f"a Ray address has no effect while task_runner is {self.task_runner}; pass --task-runner ray, "
                "or omit the address",
                "fan_out.ray_address",
            )
        return self
