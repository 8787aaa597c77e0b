"""What may be set about data: the form of an ingest."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from crrg.config.base import FrozenConfig
from crrg.config.fan_out import FanOut
from crrg.domain.report import Language
from crrg.domain.source_kind import AUTO, SOURCE_CHOICES

DEFAULT_IMAGE_SIZE = 512
"""Longer side of films where nobody says otherwise, pixels; a bundle keeps to that of its dataset."""


class IngestConfig(FrozenConfig):
    """Form of an ingest: archives become one dataset of Parquet pairs.

    Attributes:
        source: Where the archives lie: ``URL`` or ``kind:URL``, one or several.
        dataset: Name of the dataset.
        source_kind: Kind of archive for plain URLs; ``auto`` looks at what lies there.
        image_size: Longest side of the stored films, pixels; smaller films are not enlarged.
        train_share: Share of patients in the train split, 0..1.
        validation_share: Share of patients in the validation split, 0..1; the rest is the test split.
        use_published_split: Whether an archive's own split is kept where it has one.
        seed: Seed of the split.
        max_failure_rate: Highest share of quarantined inputs of a good ingest, 0..1; out-of-scope ones are left out.
        num_workers: Decoder processes; 0 takes what suits this machine, and one for a shard that runs elsewhere.
        limit: Most inputs to take from each archive; 0 takes all.
        grounding: How films without a scene graph get regions: ``auto`` ties their findings to regions by words and
            draws boxes from boxes of the lungs, ``phrases`` only ties sentences to boxes that the archive has,
            ``off`` does neither.
        shard_size: Films per shard, where shards are decoded in processes or machines of their own.
        fan_out: Where shards are decoded.
        languages: Languages of reports that are let in. English is always read; of reports in another one only the
            text is kept: labels and regions are read out of English alone. Others are refused (``LANG``).
        report_sections: How whole reports are cut: ``general`` reads what hospitals write; ``compatible`` cuts reports
            of MIMIC-CXR as published work does, and leaves out those it leaves out, to compare texts with it.
        new_secret: Whether a dataset whose newest version was made with another pseudonym secret gets a version with
            this one; nothing is taken over then, splits are drawn anew, and versions of the other secret are deleted.
        forgotten_may_return: Whether a dataset is begun although patients were forgotten under a secret that is lost,
            so that their films come in.
    """

    source: tuple[str, ...] = Field(title="Sources", min_length=1, json_schema_extra={"position": 0})
    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 1})
    source_kind: str = Field(
        AUTO, title="Kind of source", json_schema_extra={"position": 2, "enum": list(SOURCE_CHOICES)}
    )
    image_size: int = Field(
        DEFAULT_IMAGE_SIZE, ge=64, le=2048, title="Longest side (px)", json_schema_extra={"position": 3}
    )
    train_share: float = Field(0.8, ge=0, le=1, title="Share of train", json_schema_extra={"position": 4})
    validation_share: float = Field(0.1, ge=0, le=1, title="Share of validation", json_schema_extra={"position": 5})
    use_published_split: bool = Field(True, title="Keep published splits", json_schema_extra={"position": 6})
    seed: int = Field(0, ge=0, title="Seed", json_schema_extra={"position": 7})
    max_failure_rate: float = Field(0.2, ge=0, le=1, title="Highest failure rate", json_schema_extra={"position": 8})
    num_workers: int = Field(0, ge=0, le=256, title="Decoder processes (0 = auto)", json_schema_extra={"position": 9})
    limit: int = Field(0, ge=0, title="Most inputs per source (0 = all)", json_schema_extra={"position": 10})
    grounding: Literal["auto", "phrases", "off"] = Field(
        "auto", title="Regions of films without a scene graph", json_schema_extra={"position": 11}
    )
    shard_size: int = Field(500, ge=1, le=2000, title="Films per shard", json_schema_extra={"position": 12})
    fan_out: FanOut = Field(FanOut(), title="Where shards run", json_schema_extra={"position": 13})
    languages: tuple[Language, ...] = Field(
        ("en",), title="Languages of reports", min_length=1, json_schema_extra={"position": 14}
    )
    report_sections: Literal["general", "compatible"] = Field(
        "general", title="How reports are cut", json_schema_extra={"position": 15}
    )
    new_secret: bool = Field(False, title="Made with a new secret", json_schema_extra={"position": 16})
    forgotten_may_return: bool = Field(
        False, title="Patients forgotten under a lost secret may return", json_schema_extra={"position": 17}
    )

    @field_validator("source", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """Accept one source as plain text."""
        return (value,) if isinstance(value, str) else value

    @field_validator("languages", mode="before")
    @classmethod
    def _codes_with_commas(cls, value: Any) -> Any:
        """Accept languages as plain text with commas between them."""
        return tuple(value.replace(" ", "").split(",")) if isinstance(value, str) else value

    @field_validator("source_kind")
    @classmethod
    def _is_known_kind(cls, value: str) -> str:
        if value not in SOURCE_CHOICES:
            raise ValueError(f"kind of source is one of {', '.join(SOURCE_CHOICES)}")
        return value

    @model_validator(mode="after")
    def _shares_fit(self) -> IngestConfig:
        if self.train_share + self.validation_share > 1:
            raise ValueError("train_share and validation_share together exceed 1")
        return self
