"""From films to drafts: the four stages of one bundle, run together.

A draft depends on its film and its bundle alone: every network sees tiles of fixed shape, so neither the other films of
a night nor the size of a shard change it, but for the last digits where a GPU reads few films (``tiles``). Knows no
files and no store; see ``crrg.operations.night.nightly`` for those.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.evidence import EvidenceSettings
from crrg.config.running import DecodingSettings
from crrg.data.images import model_input
from crrg.data.tokenizer import PhraseTokenizer, TextTokenizer
from crrg.device import autocast, in_batches, in_tiles
from crrg.domain.bundle import FAST_DEVICES, UNRECORDED_IMAGE_SIZE, BundleFiles
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.film_labels import FilmLabels
from crrg.domain.labels import LABELS, LabelValues
from crrg.domain.nbest import NBestDraft, Wording
from crrg.domain.regions import REGIONS
from crrg.domain.sentences import split_sentences
from crrg.domain.study import DraftReport, Film
from crrg.errors import ModelError
from crrg.evaluation.labeler import label_report
from crrg.inference.assembly import RegionPhrase, assemble_as
from crrg.inference.calibration import Calibration
from crrg.inference.consistency import SimilarityCurve, consistency, region_contradictions, side_probabilities
from crrg.inference.decoding import DecodedPhrase, choose_phrases, decode_hypotheses
from crrg.inference.dedup import Similarity
from crrg.inference.evidence import Explainer
from crrg.inference.film_drafts import FilmDrafts, FloatValues, LabelReading
from crrg.inference.fusion import FusedClassifier
from crrg.inference.reconciling import film_signals, reconcile_flags, shown_findings
from crrg.inference.regions import RegionReadings, RegionThresholds, read_regions, told_flags
from crrg.inference.reranking import likest_to_film
from crrg.inference.sentence_encoder import bundled_similarity
from crrg.inference.statements import read_statement
from crrg.inference.tiles import tile_size
from crrg.inference.visibility import Visibility
from crrg.inference.zero_shot import LabelAnswer, ask_labels, encode_texts, read_text_tokenizer, zero_shot_labels
from crrg.models.clip import ClipModel, load_clip
from crrg.models.detector import RegionDetector, load_detector
from crrg.models.products import with_output_rows
from crrg.models.region_heads import AnySelector, load_selector
from crrg.models.report_generator import ReportGenerator, load_generator

logger = logging.getLogger(__name__)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ReportPipeline:
    """The four stages of one bundle, ready to draft.

    Attributes:
        bundle_id: Bundle they come from.
        detector: Finds regions.
        selector: Reads regions.
        generator: Words regions.
        tokenizer: The generator's.
        clip: Labels films and compares them with texts.
        clip_tokenizer: The text tower's.
        thresholds: Of the selector, with the selection thresholds that the generator stage chose.
        calibration: Of the label head.
        similarity: Cosine to agreement.
        decoding: How phrases are searched.
        fusion: The fused classifier, whose probabilities are given out; without it they are the label head's.
        findings: Says which findings a film has, by film and regions; reconciled flags follow it, else the label head.
        visibility: Which regions a film shows; without it the detector's own threshold says whether one was found.
        repeats: Pairwise similarity by which near repeats of a sentence are found; shared words where not given.
        order: In which order reports go through the regions, as the generator stage learnt it.
        image_size: Longer side of the films that the stages were trained on, pixels; films are decoded to it.
        small_tiles: Whether few films may go in small tiles (``tile_size``), for somebody who waits for them.
    """

    bundle_id: str
    detector: RegionDetector
    selector: AnySelector
    generator: ReportGenerator
    tokenizer: PhraseTokenizer
    clip: ClipModel
    clip_tokenizer: TextTokenizer
    thresholds: RegionThresholds
    calibration: Calibration
    similarity: SimilarityCurve
    decoding: DecodingSettings
    fusion: FusedClassifier | None = None
    findings: FusedClassifier | None = None
    visibility: Visibility | None = None
    repeats: Similarity | None = None
    order: Sequence[str] = REGIONS
    image_size: int = UNRECORDED_IMAGE_SIZE
    small_tiles: bool = False

    @classmethod
    def from_bundle(cls, bundle: BundleFiles, device: torch.device) -> ReportPipeline:
        """Build the stages from a bundle's verified bytes.

        Rounded weights draft only on a kind of device on which they have passed their gate; exact ones elsewhere.

        Raises:
            ModelError: A part is missing or does not fit.
        """
        _warn_of_exact_drafts(device, bundle)
        try:
            stages, files = bundle.spec["stages"], bundle.files
            return cls(
                bundle_id=bundle.bundle_id,
                detector=load_detector(stages["detector"], files["detector.safetensors"], device),
                selector=load_selector(stages["selector"], files["selector.safetensors"], device),
                generator=with_output_rows(
                    load_generator(stages["generator"], files["generator.safetensors"], files["tokenizer.json"], device)
                ),
                tokenizer=PhraseTokenizer(files["tokenizer.json"]),
                clip=load_clip(stages["clip"], files["clip.safetensors"], device),
                clip_tokenizer=read_text_tokenizer(stages["clip"], files["clip_tokenizer.json"]),
                thresholds=replace(
                    RegionThresholds.from_config(stages["selector"]), **stages["generator"].get("selection", {})
                ),
                calibration=Calibration.from_config(stages["clip"]),
                similarity=SimilarityCurve(**stages["clip"]["similarity"]),
                decoding=decoding_on(device.type, bundle.spec),
                fusion=_classifier(bundle.spec, "fusion"),
                findings=_classifier(bundle.spec, "findings"),
                visibility=Visibility.from_config(stages["detector"]),
                repeats=bundled_similarity(bundle, device),
                order=stages["generator"].get("order", REGIONS),
                image_size=bundle.image_size,
            )
        except KeyError as error:
            raise ModelError(f"the bundle lacks {error}; restore it or assemble it again", bundle.bundle_id) from error

    @property
    def label_thresholds(self) -> dict[str, float]:
        """Probability from which each label is given."""
        thresholds = self.calibration.thresholds if self.fusion is None else self.fusion.thresholds
        return dict(zip(LABELS, thresholds.tolist(), strict=True))

    @property
    def abnormal_threshold(self) -> float:
        """Probability from which a region reads abnormal."""
        return self.thresholds.abnormal

    @property
    def takes_all_cores(self) -> bool:
        """Whether it drafts on the processor, in threads that wait for one another."""
        return next(self.clip.parameters()).device.type == "cpu"

    @property
    def film_thresholds(self) -> dict[str, float]:
        """The same for the label head alone, which has not read the draft."""
        return dict(zip(LABELS, self.calibration.thresholds.tolist(), strict=True))

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        """Draft reports and labels; where the device's memory does not suffice, in halved batches from there on.

        Args:
            films: Frontal films.

        Returns:
            One draft per film, in order; an empty list for no film.

        Raises:
            DeviceMemoryError: The device's memory does not suffice for one film.
            DeviceError: The device has failed.
        """
        parts = in_batches(len(films), len(films), lambda first, last: self._draft(films[first:last]))
        return [draft for part in parts for draft in part]

    def _draft(self, films: Sequence[Film]) -> list[DraftReport]:
        made = self.make_drafts(films)
        given = self.given_probabilities(made)
        agreements = self._agreements(made.labels.image_features, [findings for findings, _ in made.reports])
        return [self._draft_one(film, made, i, given[i], agreements[i]) for i, film in enumerate(films)]

    def make_drafts(self, films: Sequence[Film]) -> FilmDrafts:
        """Read at least one film, word its regions and read the labels of what was worded."""
        readings = self.read_regions(films)
        labels = self.read_labels(films)
        region_flags = readings.flags(self.thresholds)
        flags, selected = self._conditions(readings, labels, region_flags)
        phrases, hypotheses = self._word(readings, flags, selected, labels.image_features)
        reports = [self._assemble(phrases[i], flags[i]) for i in range(len(films))]
        said: list[LabelValues] = [label_report(f"{findings} {impression}") for findings, impression in reports]
        return FilmDrafts(readings, labels, flags, region_flags, selected, phrases, hypotheses, reports, said)

    def draft_nbest(self, films: Sequence[Film]) -> list[NBestDraft]:
        """Draft at least one film and keep every finished wording of each region with its score, the best first."""
        made = self.make_drafts(films)
        return [
            NBestDraft(*report, hypotheses=found) for report, found in zip(made.reports, made.hypotheses, strict=True)
        ]

    def given_probabilities(self, made: FilmDrafts) -> FloatArray:
        """Return the probabilities ``[N, 14]`` that are given out: fused where the bundle has the classifier."""
        return made.labels.probabilities if self.fusion is None else self.fusion.probabilities(made.signals())

    def read_regions(self, films: Sequence[Film]) -> RegionReadings:
        """Run detector and selector over films, and decide which regions each film shows."""
        size, selector_size = (stage.architecture.input_size for stage in (self.detector, self.selector))
        images = _inputs(films, size)
        selector_images = images if selector_size == size else _inputs(films, selector_size)
        how: dict[str, Any] = {"precision": self.decoding.precision, "may_be_small": self.small_tiles}
        readings = read_regions(self.detector, self.selector, images, selector_images, **how)
        return readings if self.visibility is None else self.visibility.applied(readings)

    @torch.inference_mode()
    def read_labels(self, films: Sequence[Film]) -> LabelReading:
        """Run the image tower over films and calibrate its labels."""
        device = next(self.clip.parameters()).device
        side = self.clip.architecture.input_size
        images = _inputs(films, side)

        def read(rows: NDArray[np.int64], num_real: int) -> tuple[torch.Tensor, torch.Tensor]:
            with autocast(device, self.decoding.precision):
                reading = self.clip.read_films(torch.from_numpy(images[rows]).to(device)[:, None])
            return reading.image_features[:num_real].float().cpu(), reading.label_logits[:num_real].float().cpu()

        size = tile_size(len(images), side, device, self.decoding.precision, may_be_small=self.small_tiles)
        features, logits = zip(*in_tiles(len(images), size, read), strict=True)
        scores = torch.cat(logits).numpy().astype(np.float64)
        return LabelReading(torch.cat(features), scores, self.calibration.probabilities(scores))

    def film_labels(self, films: Sequence[Film]) -> FilmLabels:
        """Return what the CLIP stage alone says of at least one film: label head, zero-shot, features."""
        reading = self.read_labels(films)
        found = zero_shot_labels(self.clip, self.clip_tokenizer, reading.image_features, LABELS)
        return FilmLabels(
            head=reading.probabilities,
            head_thresholds=self.calibration.thresholds,
            zero_shot=np.stack([found[label].numpy() for label in LABELS], axis=1).astype(np.float64),
            image_features=reading.image_features.numpy().astype(np.float64),
        )

    def text_features(self, texts: Sequence[str]) -> FloatArray:
        """Return features ``[N, D]`` of length 1 of texts, as an array."""
        return np.asarray(self.encode_texts(texts).numpy(), dtype=np.float64)

    def ask(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, LabelAnswer]:
        """Ask about findings in any words; uncalibrated (``zero_shot.ask_labels``).

        Args:
            films: At least one.
            labels: Findings in words.
        """
        return ask_labels(self.clip, self.clip_tokenizer, self.read_labels(films).image_features, labels)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return features ``[N, D]`` of length 1 of texts."""
        return encode_texts(self.clip, self.clip_tokenizer, texts)

    def explain(
        self, films: Sequence[Film], drafts: Sequence[DraftReport], settings: EvidenceSettings
    ) -> list[list[SentenceEvidence]]:
        """Map what the sentences of drafts rest on (``crrg.inference.evidence``).

        Args:
            films: Films.
            drafts: What ``draft`` made of them with this bundle.
            settings: How many sentences, and how finely.

        Returns:
            Per film one map per explained sentence, the most abnormal first.
        """
        if not settings.is_on or not films:
            return [[] for _ in films]
        readings = self.read_regions(films)
        flags, selected = self._conditions(readings, self.read_labels(films), readings.flags(self.thresholds))
        explainer = Explainer(self.detector, self.selector, self.generator, self.tokenizer)
        seen = zip(films, drafts, readings.input_boxes_xyxy, flags, told_flags(flags, selected), strict=True)
        return [explainer.explain(*each, settings) for each in seen]

    def _conditions(
        self, readings: RegionReadings, labels: LabelReading, region_flags: FloatValues
    ) -> tuple[FloatValues, NDArray[np.bool_]]:
        """Return the generator's flags ``[N, 29, 15]`` and which regions ``[N, 29]`` get a sentence."""
        flags, selected = region_flags, readings.selected(self.thresholds)
        if self.decoding.reconcile:
            flags = reconcile_flags(flags, readings.finding_probabilities, *self._film_findings(readings, labels))
            selected = selected | flags[..., :-1].any(axis=2)
        if self.visibility is not None:  # nothing is said of what a film does not show
            selected = selected & self.visibility.is_shown(readings.scores)
        return flags, selected

    def _film_findings(self, readings: RegionReadings, labels: LabelReading) -> tuple[FloatArray, FloatArray]:
        """Return probabilities ``[N, 14]`` and thresholds ``[14]`` of the findings of whole films."""
        if self.findings is None:
            return labels.probabilities, self.calibration.thresholds
        signals = film_signals(labels.logits, readings.finding_probabilities, readings.abnormal_probabilities)
        return self.findings.probabilities(signals), self.findings.thresholds

    def _word(
        self,
        readings: RegionReadings,
        flags: FloatValues,
        selected: NDArray[np.bool_],
        image_features: torch.Tensor,
    ) -> tuple[list[dict[int, DecodedPhrase]], list[dict[int, tuple[Wording, ...]]]]:
        """Word the selected regions of all films in one go; per film, region index to phrase, and to all wordings."""
        films, regions = np.nonzero(selected)
        wanted = flags[films, regions]
        conditions = (readings.features[films, regions], regions, wanted)
        reports = told_flags(flags, selected)[films]
        found = decode_hypotheses(self.generator, self.tokenizer, *conditions, self.decoding, report_flags=reports)
        if self.decoding.rerank:
            chosen = likest_to_film(found, wanted, image_features[torch.from_numpy(films)], self.encode_texts)
        else:
            chosen = choose_phrases(self.generator, found, wanted, self.decoding)
        phrases: list[dict[int, DecodedPhrase]] = [{} for _ in range(len(selected))]
        hypotheses: list[dict[int, tuple[Wording, ...]]] = [{} for _ in range(len(selected))]
        for film, region, phrase, texts in zip(films.tolist(), regions.tolist(), chosen, found, strict=True):
            if phrase.text:
                phrases[film][region] = phrase
                hypotheses[film][region] = tuple(Wording(e.text, e.score, e.logprob) for e in texts if e.text)
        return phrases, hypotheses

    def _assemble(self, phrases: Mapping[int, DecodedPhrase], flags: FloatValues) -> tuple[str, str]:
        """Return findings and impression of one film's phrases by region index, under its flags ``[29, 15]``."""
        said = [RegionPhrase(REGIONS[i], phrase.text, bool(flags[i, -1])) for i, phrase in sorted(phrases.items())]
        report = assemble_as(self.decoding.compat, said, self.repeats, self.order)
        return report.findings, report.impression

    @torch.inference_mode()
    def _agreements(self, image_features: torch.Tensor, texts: Sequence[str]) -> list[float]:
        text_features = self.encode_texts(texts)
        cosines = (image_features * text_features).sum(dim=1).tolist()
        return [self.similarity.agreement(cosine) for cosine in cosines]

    def _draft_one(self, film: Film, made: FilmDrafts, row: int, given: FloatArray, agreement: float) -> DraftReport:
        thresholds = self.calibration.thresholds if self.fusion is None else self.fusion.thresholds
        findings, impression = made.reports[row]
        # the film alone is asked whether it agrees: fused probabilities have read the draft
        score, flags = consistency(
            dict(zip(LABELS, made.labels.probabilities[row].tolist(), strict=True)),
            made.said[row],
            agreement,
            self.film_thresholds,
            statements=[read_statement(sentence, label_report) for sentence in split_sentences(findings)],
            sides=side_probabilities(made.readings.finding_probabilities[row]),
        )
        if self.decoding.reconcile:
            shown = [LABELS[i] for i in np.flatnonzero(shown_findings(made.region_flags[row]))]
            flags += region_contradictions(made.said[row], shown)
        return DraftReport(
            findings=findings,
            impression=impression,
            regions=made.regions(row, film, self.detector.architecture.input_size),
            probabilities=dict(zip(LABELS, given.tolist(), strict=True)),
            labels=dict(zip(LABELS, (given >= thresholds).astype(int).tolist(), strict=True)),
            consistency=score,
            flags=flags,
        )


def decoding_on(kind: str, spec: Mapping[str, Any]) -> DecodingSettings:
    """Return how a bundle drafts on a kind of device: exactly where nobody has found its rounded weights as good.

    Args:
        kind: Of device (``cpu``, ``cuda``).
        spec: The bundle's ``bundle.json``.
    """
    decoding = DecodingSettings.model_validate(spec.get("decoding", {}))
    is_passed = kind in spec.get(FAST_DEVICES, ())
    return decoding if is_passed else decoding.model_copy(update={"precision": "exact"})


def _classifier(spec: Mapping[str, Any], name: str) -> FusedClassifier | None:
    fitted = spec.get(name)
    return FusedClassifier.from_config(fitted["labels"]) if fitted else None


def _warn_of_exact_drafts(device: torch.device, bundle: BundleFiles) -> None:
    """Say where a bundle that asks for rounded weights drafts exactly, and how that is changed."""
    if bundle.spec.get("decoding", {}).get("precision") != "fast" or device.type in bundle.fast_devices:
        return
    logger.warning(
        "bundle %s: rounded weights have passed their gate on %s and not on %s, so drafts are exact here; for rounded "
        "ones assemble the bundle again with device = %s, then register and promote it",
        bundle.bundle_id, " and ".join(bundle.fast_devices) or "no recorded device", device.type, device.type,
    )  # fmt: skip


def _inputs(films: Sequence[Film], size: int) -> NDArray[np.uint8]:
    return np.stack([model_input(film.pixels, size) for film in films])
