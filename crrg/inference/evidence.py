"""Which parts of a film a drafted sentence rests on: hide one part after the other and see what falls.

The region's box is held where it was found, so that only what is seen changes: the feature under the box, with it the
likelihood of the very words of the draft under the flags they were drafted for, and the region's abnormality. A hidden
part shows the film's mean grey. All regions of a film are judged in the same readings, one per cell.

Knows no files and no pipeline.

Source: occlusion sensitivity, Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.evidence import EvidenceSettings
from crrg.data.images import model_input
from crrg.data.tokenizer import PhraseTokenizer
from crrg.device import in_batches
from crrg.domain.boxes import Letterbox
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.regions import REGION_INDEX
from crrg.domain.sentences import split_sentences
from crrg.domain.study import DraftReport, Film
from crrg.inference.regions import judge_at, looking_size
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import AnySelector, RegionOutputs
from crrg.models.report_generator import ReportGenerator

FloatArray = NDArray[np.float32]
ROWS_AT_ONCE = 16
"""Rows whose words are scored together: their logits over the vocabulary are the largest thing in memory here."""


@dataclass(frozen=True)
class WordedRegion:
    """A sentence that is to be explained.

    Attributes:
        region: One of ``REGIONS``.
        token_ids: Its words between begin and end token.
        flags: The 14 findings and abnormality that it was drafted for, ``[15]``.
        report_flags: What its whole report says, ``[29, 15]``, NaN for regions that it does not speak of; nothing is
            known of it where not given.
    """

    region: str
    token_ids: tuple[int, ...]
    flags: NDArray[np.floating]
    report_flags: FloatArray | None = None


@dataclass(frozen=True)
class Explainer:
    """The stages that a sentence passes through.

    Attributes:
        detector: Whose boxes are held.
        selector: Reads the region.
        generator: Words it.
        tokenizer: The generator's.
    """

    detector: RegionDetector
    selector: AnySelector
    generator: ReportGenerator
    tokenizer: PhraseTokenizer

    def explain(
        self,
        film: Film,
        draft: DraftReport,
        input_boxes_xyxy: FloatArray,
        flags: NDArray[np.floating],
        report_flags: FloatArray,
        settings: EvidenceSettings,
    ) -> list[SentenceEvidence]:
        """Map what the sentences of one draft rest on.

        Args:
            film: The film.
            draft: Its draft by these stages.
            input_boxes_xyxy: Where its regions were found, ``[29, 4]`` in pixels of the detector's input.
            flags: What they were drafted for, ``[29, 15]``.
            report_flags: The same of those that the draft speaks of, ``[29, 15]``, NaN for the others.
            settings: How many sentences, and how finely.

        Returns:
            One map per explained sentence, abnormal ones first.
        """
        end_id, longest = self.tokenizer.end_id, self.generator.decoder.max_length
        sentences = []
        for name in sentences_to_explain(draft, (flags[:, -1] > 0).tolist(), settings.max_sentences):
            index = REGION_INDEX[name]
            words = self.tokenizer.encode(draft.regions[index].phrase or "")
            sentences.append(WordedRegion(name, (end_id, *words, end_id)[:longest], flags[index], report_flags))
        size = looking_size(self.detector, self.selector)
        box = film.letterbox(size)
        return explain_sentences(
            hidden_copies(model_input(film.pixels, size), box, settings),
            sentences,
            lambda copies: judge_at(self.detector, self.selector, copies, input_boxes_xyxy),
            lambda sentence, features: sentence_logprobs(self.generator, sentence, features),
        )


def sentences_to_explain(draft: DraftReport, is_abnormal: Sequence[bool], most: int) -> list[str]:
    """Return the regions whose sentences are explained: abnormal ones first, then the more abnormal.

    A sentence that stands in the findings for several regions is explained once, for the most abnormal of them.

    Args:
        draft: The draft.
        is_abnormal: Of each of the 29 regions, whether its sentence was drafted as abnormal.
        most: Most sentences.
    """
    said = [
        (not flag, -region.abnormal_probability, REGION_INDEX[region.region], region.phrase)
        for region, flag in zip(draft.regions, is_abnormal, strict=True)
        if region.phrase and any(sentence in draft.findings for sentence in split_sentences(region.phrase))
    ]
    first: dict[str, int] = {}
    for _, _, index, phrase in sorted(said):
        first.setdefault(phrase, index)
    return [draft.regions[index].region for index in first.values()][:most]


def hidden_copies(image: NDArray[np.uint8], box: Letterbox, settings: EvidenceSettings) -> NDArray[np.uint8]:
    """Return copies of a film with one part hidden in each, row by row, and the film itself as the last.

    Args:
        image: Model input, uint8 ``[S, S]``.
        box: How the film lies in it.
        settings: Cells and patch.

    Returns:
        uint8 ``[G * G + 1, S, S]``.
    """
    (width, height), (left, top) = box.inner_size, box.offset
    grey = round(float(image[top : top + height, left : left + width].mean()))
    num = settings.cells
    copies = np.repeat(image[None], num * num + 1, axis=0)
    centres = (np.arange(num) + 0.5) / num
    half = settings.patch / num / 2
    low, high = np.clip(centres - half, 0, 1), np.clip(centres + half, 0, 1)
    rows = [slice(top + round(a * height), top + round(b * height)) for a, b in zip(low, high, strict=True)]
    columns = [slice(left + round(a * width), left + round(b * width)) for a, b in zip(low, high, strict=True)]
    for cell in range(num * num):
        copies[cell, rows[cell // num], columns[cell % num]] = grey
    return copies


def explain_sentences(
    copies: NDArray[np.uint8],
    sentences: Sequence[WordedRegion],
    judge: Callable[[NDArray[np.uint8]], RegionOutputs],
    score: Callable[[WordedRegion, FloatArray], FloatArray],
) -> list[SentenceEvidence]:
    """Map what each sentence of one film rests on.

    Args:
        copies: By ``hidden_copies``.
        sentences: What to explain.
        judge: Judges copies of the film under its boxes.
        score: Mean log-probability per token ``[N]`` of a sentence under region features ``[N, F]``.

    Returns:
        One map per sentence, in order; an empty list, and nothing judged, for no sentence.
    """
    if not sentences:
        return []
    judged = judge(copies)
    return [
        SentenceEvidence(
            region=sentence.region,
            is_abnormal=bool(sentence.flags[-1] > 0),
            wording_falls=_falls(score(sentence, judged.features[:, index].numpy())),
            abnormality_falls=_falls(judged.abnormal_logits[:, index].numpy()),
        )
        for sentence in sentences
        for index in [REGION_INDEX[sentence.region]]
    ]


@torch.inference_mode()
def sentence_logprobs(generator: ReportGenerator, sentence: WordedRegion, features: FloatArray) -> FloatArray:
    """Return the mean log-probability per token ``[N]`` of a sentence under region features ``[N, F]``, end included.

    Args:
        generator: In ``eval`` mode; decides the device. Its exact weights are used.
        sentence: The words, their region and flags.
        features: Region features.
    """
    device = generator.feature_mean.device
    tokens = torch.tensor(sentence.token_ids, device=device)
    flags = torch.as_tensor(np.asarray(sentence.flags), dtype=torch.float32, device=device)
    told = None if sentence.report_flags is None else torch.as_tensor(sentence.report_flags, device=device)
    region = torch.tensor(REGION_INDEX[sentence.region], device=device)

    def work(first: int, last: int) -> FloatArray:
        num = last - first
        rows = torch.as_tensor(features[first:last], device=device)
        condition = generator.encode_condition(
            rows,
            region.expand(num),
            flags.expand(num, -1),
            report_flags=None if told is None else told.expand(num, -1, -1),
        )
        logits = generator(tokens[:-1].expand(num, -1), condition).float()
        chosen = logits.log_softmax(dim=-1).gather(2, tokens[1:].expand(num, -1)[..., None])
        return np.asarray(chosen.mean(dim=(1, 2)).cpu().numpy(), dtype=np.float32)

    return np.concatenate(in_batches(len(features), ROWS_AT_ONCE, work))


def _falls(values: FloatArray) -> FloatArray:
    """Return how far each copy lies below the last, which hides nothing, as a square map."""
    side = round((len(values) - 1) ** 0.5)
    return np.asarray((values[-1] - values[:-1]).reshape(side, side))
