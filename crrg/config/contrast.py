"""What may be set about the contrastive loss and about what a study shows and says at one step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crrg.config.base import FrozenConfig


class ContrastConfig(FrozenConfig):
    """Contrastive loss between the views and the texts of studies. The defaults are plain CLIP over one view and text.

    Attributes:
        kind: ``softmax`` finds the right text among all (CLIP), ``sigmoid`` judges each pair on its own (SigLIP).
        view_weight: Weight of ICL, the loss between a study's two views (paper: 1.0); needs two views.
        text_weight: Weight of TCL, the loss between a study's two texts (paper: 0.5); needs two texts.
        label_smoothing: Share of every target of MVS, the loss between views and texts, that goes to all candidates
            alike; in training alone.
        multi_positive: Whether equal texts share a target; otherwise only a study's own text is right (paper).
        across_ranks: Whether studies are compared with those of all ranks of a distributed run, or of their own only.
        cached_rows: Films, and texts, whose activations are held at once; a larger batch is encoded a second time on
            the way back (gradient caching), which costs a third more time. 0 holds the whole batch.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    view_weight: float = Field(0.0, ge=0)
    text_weight: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    multi_positive: bool = True
    across_ranks: bool = True
    cached_rows: int = Field(0, ge=0)


class SamplingConfig(FrozenConfig):
    """What of a study is drawn at one step.

    Attributes:
        num_views: Pictures per study. With 1 each frontal film is a row of its own. With 2 a study is a row, and two
            different films of it are drawn, the frontal first; where it has one, that is augmented twice.
        laterals: Whether lateral films are among the views; only with two views.
        num_texts: Texts per study.
        text_source: ``report`` draws from all sentences of the report, ``sections`` one of findings and impression.
        shuffle_sentences: Whether the sentences of a text come in a new order each time.
        paraphrase_share: Share of texts that are worded another way; the labels they state never change.
    """

    num_views: Literal[1, 2] = 1
    laterals: bool = True
    num_texts: Literal[1, 2] = 1
    text_source: Literal["report", "sections"] = "report"
    shuffle_sentences: bool = True
    paraphrase_share: float = Field(0.0, ge=0, le=1)
