"""The form of a bundle that is put together from given parts: imported stages beside trained ones."""

from __future__ import annotations

from pydantic import Field, model_validator

from crrg.config.base import Device, FrozenConfig
from crrg.config.models import FusionSettings
from crrg.config.overrides import DecodingOverrides
from crrg.config.running import Gate, RetrainConfig


class BundleConfig(FrozenConfig):
    """Form of a bundle of given parts.

    Attributes:
        parts: Where the parts come from: folders that `crrg import rgrg` wrote, on the machine that assembles, and
            folders of finished trainings under the root, such as ``checkpoints/clip/<hash>``. A later one takes the
            place of an earlier one of the same part. A folder of `crrg import sentence-encoder` finds repeated
            sentences where drafts are assembled as published.
        dataset: What the trained parts learnt from; on its validation films the fused classifier is fitted.
        dataset_version: Its version; empty takes the newest.
        device: Where films are drafted for that.
        fusion: How the classifier over film, draft and regions is fitted.
        register_candidate: Whether the bundle is also scored on the test split, checked against the gate and registered
            as a candidate. It never becomes champion by that; `crrg promote` does it where the gate was passed.
        evaluation_limit: Most films to score it on; 0 takes all of the test split.
        gate: What a candidate must reach.
        decoding: How the bundle searches its drafts; ``None`` keeps what the generator says.
    """

    parts: tuple[str, ...] = Field((), title="Folders of the parts", json_schema_extra={"position": 0})
    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 1})
    dataset_version: str = Field("", title="Dataset version (empty = newest)", json_schema_extra={"position": 2})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 3})
    fusion: FusionSettings = Field(FusionSettings(), title="Fused classifier", json_schema_extra={"position": 4})
    register_candidate: bool = Field(False, title="Register as candidate", json_schema_extra={"position": 5})
    evaluation_limit: int = Field(0, ge=0, title="Evaluation films (0 = all)", json_schema_extra={"position": 6})
    gate: Gate = Field(Gate(), title="Gate", json_schema_extra={"position": 7})
    decoding: DecodingOverrides = Field(
        DecodingOverrides(), title="Search of drafts", json_schema_extra={"position": 8}
    )

    @model_validator(mode="after")
    def _names_parts(self) -> BundleConfig:
        if not self.parts:
            raise ValueError("a bundle is made of parts; name their folders (--from, once for each)")
        return self

    def gate_form(self) -> RetrainConfig:
        """Return the form by which the gate decides about a candidate that is not to be promoted."""
        return RetrainConfig(
            dataset=self.dataset,
            dataset_version=self.dataset_version,
            device=self.device,
            evaluation_limit=self.evaluation_limit,
            promote="never",
            gate=self.gate,
        )
