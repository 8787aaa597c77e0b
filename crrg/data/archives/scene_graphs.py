"""Reads the scene graph of one film: boxes, phrases and abnormal marks of the 29 regions.

The shape is Chest ImaGenome's; our drawn cohorts are written in it, too. Knows no store and no film: boxes are in
pixels of the published film and may reach beyond it.

Of the published rules these are kept: the ``original_*`` coordinates count, a box without area is left out, the last
box of a region counts, and a region is abnormal where any of its phrases has ``nlp|yes|abnormal``. Unlike there, a
region's entries are joined instead of the last one replacing the others, phrases stand in the order of the report, and
phrases that only compare with an earlier film, which nobody can see on this one, are left out.

Source: Wu et al., Chest ImaGenome, PhysioNet 2021; rules of Tanida et al. (RGRG), CVPR 2023.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from crrg.domain.boxes import BoxXyxy
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.domain.sentences import split_sentences
from crrg.domain.study import RegionAnnotation, RegionSource
from crrg.errors import AnnotationError

ABNORMAL = "nlp|yes|abnormal"
_CORNERS = ("original_x1", "original_y1", "original_x2", "original_y2")
_COMPARISON = "comparison|"
_SENTENCE_NUMBER = re.compile(r"(\d+)$")
_WET_READ = re.compile(r"\bWET READ\b.*?\b[AP]M\b", re.IGNORECASE)
_TITLE = re.compile(r"\bFINAL (?:REPORT|ADDENDUM)\b:?")
_HEADER = re.compile(
    r"(?:^|(?<=[.!?] ))(?:[A-Z][A-Z0-9 ,.&/()'-]{2,60}|Findings?|Impression|Conclusion|Comparison|Technique)\s?:\s*"
)
_VIEW_WORDS = frozenset(
    ["PA", "AP", "AND", "&", "OF", "THE", "SINGLE", "ONE", "TWO", "THREE", "1", "2", "3", "PORTABLE", "BEDSIDE",
     "UPRIGHT", "SUPINE", "SEMI-UPRIGHT", "SEMIUPRIGHT", "ERECT", "FRONTAL", "LATERAL", "CHEST", "VIEW", "VIEWS",
     "RADIOGRAPH", "RADIOGRAPHS", "X-RAY", "FILM", "FILMS", "STUDY", "EXAMINATION"]
)  # fmt: skip
_PICTURE_WORDS = frozenset(["CHEST", "VIEW", "VIEWS", "RADIOGRAPH", "RADIOGRAPHS", "X-RAY", "FILM", "FILMS"])

_Entry: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True)
class SceneGraph:
    """What a scene graph says of one film.

    Attributes:
        image_id: The film it belongs to (``dicom_id``); empty where it does not say.
        viewpoint: Projection as written there (``PA``, ``AP``); empty where it does not say.
        regions: Annotated regions in region order, boxes in pixels of the published film.
    """

    image_id: str = field(repr=False)
    viewpoint: str
    regions: tuple[RegionAnnotation, ...] = field(repr=False)


def read_scene_graph(data: bytes) -> SceneGraph:
    """Read a scene graph.

    A region without a box is not annotated, whatever is said of it. A region with a box and no phrase is normal, since
    the whole report was read for it.

    Args:
        data: The JSON file.

    Raises:
        AnnotationError: It is no scene graph (``PARSE.SCENE_GRAPH``).
    """
    try:
        graph = json.loads(data)
        boxes = _boxes(graph["objects"])
        phrases = _phrases_by_region(graph.get("attributes") or [])
        return SceneGraph(
            image_id=_text(graph.get("image_id")),
            viewpoint=_text(graph.get("viewpoint")),
            regions=tuple(
                _annotation(region, boxes[region], phrases.get(region, _NOTHING))
                for region in REGIONS
                if region in boxes
            ),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"the scene graph beside the film cannot be read ({type(error).__name__})"
        raise AnnotationError(reason, code="PARSE.SCENE_GRAPH") from error


def phrase_sentences(text: str) -> list[str]:
    """Return the sentences of a phrase without what is no sentence of the report.

    Preliminary readings ("WET READ: ... 5:00 PM"), headers ("IMPRESSION:") and names of views ("PA AND LATERAL CHEST
    RADIOGRAPHS") go; each sentence begins with a capital letter and ends with a stop.

    Args:
        text: A phrase as it was cut from a report; may hold line breaks.

    Returns:
        Sentences; empty where nothing remains.
    """
    text = " ".join(text.split())
    text = _TITLE.sub(" ", _WET_READ.sub(" ", text))
    text = _without_view_names(_HEADER.sub("", " ".join(text.split())))
    return [_as_sentence(sentence) for sentence in split_sentences(text)]


@dataclass
class _Said:
    """What the entries of one region say together: phrases with their place in the report, and the mark."""

    phrases: list[tuple[int | None, str]] = field(default_factory=list)
    is_abnormal: bool = False


_NOTHING = _Said()


def _boxes(objects: list[_Entry]) -> dict[str, BoxXyxy]:
    boxes: dict[str, BoxXyxy] = {}
    for entry in objects:
        box = _box(entry) if entry.get("bbox_name") in REGION_INDEX else None
        if box is not None:
            boxes[_text(entry["bbox_name"])] = box
    return boxes


def _box(entry: _Entry) -> BoxXyxy | None:
    """Return the box in pixels of the published film; ``None`` where a corner is missing or there is no area."""
    values = [entry.get(name) for name in _CORNERS]
    if any(value is None for value in values):
        return None
    xa, ya, xb, yb = (float(value) for value in values if value is not None)
    # corners that were written the wrong way round are the same rectangle
    box = min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)
    if not all(math.isfinite(value) for value in box) or box[0] == box[2] or box[1] == box[3]:
        return None
    return box


def _phrases_by_region(entries: list[_Entry]) -> dict[str, _Said]:
    found: dict[str, _Said] = {}
    for entry in entries:
        region = _text(entry.get("bbox_name"))
        if region not in REGION_INDEX:
            continue
        said = found.setdefault(region, _Said())
        for number, phrase, names in _phrases(entry):
            said.is_abnormal = said.is_abnormal or ABNORMAL in names
            said.phrases.append((number, phrase))
        said.is_abnormal = said.is_abnormal or ABNORMAL in _names(entry.get("attributes"))
    return found


def _phrases(entry: _Entry) -> Iterator[tuple[int | None, str, list[str]]]:
    """Yield sentence number, phrase and attribute names of every phrase that speaks of this film."""
    phrases, names_of = entry.get("phrases") or [], entry.get("attributes") or []
    numbers, cues_of = entry.get("phrase_IDs") or [], entry.get("comparison_cues") or []
    for place, phrase in enumerate(phrases):
        names = _names(names_of[place]) if place < len(names_of) else []
        cues = _names(cues_of[place]) if place < len(cues_of) else []
        only_compares = all(name.startswith(_COMPARISON) for name in names) if names else bool(cues)
        if not only_compares:
            yield _sentence_number(numbers[place]) if place < len(numbers) else None, _text(phrase), names


def _names(value: Any) -> list[str]:
    """Return the texts of a list that may hold lists."""
    if isinstance(value, str):
        return [value]
    return [name for part in value or [] for name in _names(part)]


def _sentence_number(phrase_id: Any) -> int | None:
    match = _SENTENCE_NUMBER.search(_text(phrase_id))
    return int(match.group(1)) if match else None


def _annotation(region: str, box: BoxXyxy, said: _Said) -> RegionAnnotation:
    phrases = said.phrases
    numbers = [number for number, _ in phrases]
    if None not in numbers:
        phrases = sorted(phrases, key=lambda phrase: phrase[0] or 0)
    sentences: dict[str, str] = {}
    for _, phrase in phrases:
        for sentence in phrase_sentences(phrase):
            sentences.setdefault(sentence.casefold(), sentence)
    return RegionAnnotation(
        region=region,
        box_xyxy=box,
        phrase=" ".join(sentences.values()) or None,
        is_abnormal=said.is_abnormal,
        source=RegionSource.SCENE_GRAPH,
    )


def _without_view_names(text: str) -> str:
    """Return the text without a beginning in capitals that only names the views."""
    words = text.split()
    count = 0
    while count < len(words) and words[count].strip(",.;:()") in _VIEW_WORDS:
        count += 1
    named = {word.strip(",.;:()") for word in words[:count]}
    return " ".join(words[count:]) if count > 1 and named & _PICTURE_WORDS else text


def _as_sentence(sentence: str) -> str:
    sentence = sentence[0].upper() + sentence[1:]
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
