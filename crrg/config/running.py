"""What may be set about running trained models: how drafts are decoded."""

from __future__ import annotations

from pydantic import Field

from crrg.config.base import FrozenConfig


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
