"""What may be set about running trained models: how drafts are decoded, and the night."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crrg.config.base import Device, FrozenConfig


class DecodingSettings(FrozenConfig):
    """How phrases are searched.

    Attributes:
        num_beams: Hypotheses kept per phrase; 1 is greedy.
        length_penalty: Power of the length by which a hypothesis' log-probability is divided.
        max_tokens: Longest phrase, begin token included; the generator's own limit where that is less.
        no_repeat_ngram: Length of a run of tokens that may not come twice in a phrase; 0 = off.
        num_slots: Phrases computed at once. It fixes the shape of every step, so that a phrase does not depend on how
            many others there are; more is faster where there are many, fewer where there is one film.
    """

    num_beams: int = Field(4, ge=1, le=16)
    length_penalty: float = Field(1.0, ge=0, le=4)
    max_tokens: int = Field(300, ge=2, le=1024)
    no_repeat_ngram: int = Field(8, ge=0, le=32)
    num_slots: int = Field(32, ge=1, le=1024)


class NightlyConfig(FrozenConfig):
    """Form of a night: what is new in the inbox becomes drafts and labels.

    Attributes:
        inbox: URL or folder of the inbox; only read, never changed.
        date: The night's date, ``YYYY-MM-DD``; empty takes today's.
        model: ``models:/crrg-pipeline@champion``, a version, or a bundle folder.
        shard_size: Inbox objects per shard, the unit of fan-out and of resuming.
        settle_s: Objects younger than this many seconds wait, since they may still be being written.
        max_failure_rate: Highest share of quarantined inputs (out-of-scope ones not counted) of a good night, 0..1.
        limit: Most new objects a night takes, in key order; 0 takes all.
        image_size: Longer side of the decoded films, pixels.
        num_workers: Decoder processes; 0 takes what suits this machine.
        device: Where the models run; ``auto`` takes a GPU if there is one.
        resend_policy: What happens to an image whose identifier was drafted on an earlier night with other pixels:
            ``conflict`` quarantines it, ``supersede`` drafts it and marks the older draft as superseded.
    """

    inbox: str = Field(min_length=1)
    date: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    model: str = "models:/crrg-pipeline@champion"
    shard_size: int = Field(200, ge=1, le=5000)
    settle_s: float = Field(60.0, ge=0)
    max_failure_rate: float = Field(0.2, ge=0, le=1)
    limit: int = Field(0, ge=0)
    image_size: int = Field(512, ge=64, le=2048)
    num_workers: int = Field(0, ge=0)
    device: Device = "auto"
    resend_policy: Literal["conflict", "supersede"] = "conflict"
