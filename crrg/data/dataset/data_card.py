"""The data card of a dataset version: what is in it, in counts, and a sheet of sample films.

Written beside the parts as ``card.json``, ``card.md`` and ``samples.png``. Counts say nothing of a person and may
travel; the sheet shows patients' films and stays in the zone of the root, where the tracking server is, too. Report
text appears nowhere. Rows are seen one by one, so that a card costs no memory. Knows no source and no refused input;
those counts are handed in.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.data.images import model_input
from crrg.domain.acquisition import UNKNOWN, WORDS, Acquisition
from crrg.domain.labels import LABEL_COLUMNS, LABELS
from crrg.domain.study import Split
from crrg.storage import Storage, canonical_json

CARD_FIGURES = ("card.json", "card.md")
"""Files of a data card that hold counts only."""
SAMPLES = "samples.png"
NUM_SAMPLES = 24
SAMPLE_SIDE = 160
SAMPLES_PER_LINE = 6
_WORD_STEPS = (0, 1, 10, 25, 50, 100, 200, 400)
_SECTIONS = ("findings", "impression", "indication")
_PLURALS = {"sex": "sexes", "age_band": "age_bands", "manufacturer": "manufacturers"}
_VALUES = {1: "positive", 0: "negative", -1: "uncertain"}


class DataCard:
    """Counts rows as they are written."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._rows = dict.fromkeys((split.value for split in Split), 0)
        self._patients: dict[str, set[bytes]] = {split.value: set() for split in Split}
        self._studies: dict[str, set[bytes]] = {split.value: set() for split in Split}
        self._words = {section: Counter[int]() for section in _SECTIONS}
        self._counts = {name: Counter[str]() for name in ("view_position", "source", "label_source", "original_size")}
        self._known = {name: Counter[str | None]() for name in WORDS}
        self._labels = {label: Counter[str]() for label in LABELS}
        self._num_boxed = self._num_films = self._num_films_without_text = 0
        self._samples: list[tuple[bytes, NDArray[np.uint8]]] = []

    def add(self, row: Mapping[str, Any], split: Split, acquisition: Acquisition = UNKNOWN) -> None:
        """Count a row of ``PAIR_SCHEMA`` and, of a film, what is known beside it."""
        self._rows[split.value] += 1
        self._patients[split.value].add(_short(row["patient_id"]))
        self._studies[split.value].add(_short(row["study_id"]))
        for section, counts in self._words.items():
            counts[_step_of(len((row[section] or "").split()))] += 1
        for name in ("source", "label_source"):
            self._counts[name][row[name]] += 1
        for label, column in zip(LABELS, LABEL_COLUMNS, strict=True):
            self._labels[label][_VALUES.get(row["labels"][column], "unmentioned")] += 1
        if row["image"] is not None:
            self._num_films += 1
            self._num_boxed += bool(row["regions"])
            self._num_films_without_text += not (row["findings"] or row["impression"])
            self._counts["view_position"][row["view_position"]] += 1
            for name, known in self._known.items():
                known[getattr(acquisition, name)] += 1
            self._counts["original_size"][_size_class(row["original_width"], row["original_height"])] += 1
            self._keep_sample(row)

    def joins(self) -> dict[str, int]:
        """Return how many films have no text, how many texts no film, and how many rows a text without findings."""
        num_rows = sum(self._rows.values())
        return {
            "films_without_text": self._num_films_without_text,
            "texts_without_film": num_rows - self._num_films,
            "texts_without_findings": self._words["findings"][0] - self._num_films_without_text,
        }

    def figures(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return the card as plain values.

        Args:
            about: What rows do not show: name, version, settings, refused inputs, leaks.
        """
        return {
            **about,
            "splits": {
                split: {"rows": rows, "patients": len(self._patients[split]), "studies": len(self._studies[split])}
                for split, rows in self._rows.items()
            },
            "num_films": self._num_films,
            "num_films_with_boxes": self._num_boxed,
            "joins": self.joins(),
            "view_positions": dict(sorted(self._counts["view_position"].items())),
            "original_sizes": dict(sorted(self._counts["original_size"].items())),
            **{_PLURALS[name]: _in_order(counts, WORDS[name]) for name, counts in self._known.items()},
            "sources": dict(sorted(self._counts["source"].items())),
            "label_sources": dict(sorted(self._counts["label_source"].items())),
            "labels": {label: _label_figures(counts) for label, counts in self._labels.items()},
            "words": {
                section: {str(step): counts[step] for step in _WORD_STEPS} for section, counts in self._words.items()
            },
        }

    def sample_sheet(self) -> bytes:
        """Return up to 24 films, chosen by the hash of their pseudonyms, as one PNG; empty where there is no film."""
        tiles = [tile for _, tile in sorted(self._samples, key=lambda sample: sample[0], reverse=True)]
        if not tiles:
            return b""
        num_lines = -(-len(tiles) // SAMPLES_PER_LINE)
        blank = np.zeros((SAMPLE_SIDE, SAMPLE_SIDE), dtype=np.uint8)
        tiles += [blank] * (num_lines * SAMPLES_PER_LINE - len(tiles))
        lines = [np.hstack(tiles[i : i + SAMPLES_PER_LINE]) for i in range(0, len(tiles), SAMPLES_PER_LINE)]
        return bytes(cv2.imencode(".png", np.vstack(lines))[1])

    def _keep_sample(self, row: Mapping[str, Any]) -> None:
        # the heap holds complements, so that its smallest is the sample to give up first
        rank = bytes(255 - byte for byte in hashlib.sha256(row["instance_id"].encode()).digest())
        if len(self._samples) == NUM_SAMPLES and rank < self._samples[0][0]:
            return
        pixels = np.frombuffer(row["image"], np.uint8).reshape(row["height"], row["width"])
        entry = (rank, model_input(pixels, SAMPLE_SIDE))
        if len(self._samples) < NUM_SAMPLES:
            heapq.heappush(self._samples, entry)
        else:
            heapq.heapreplace(self._samples, entry)


def write_card(storage: Storage, prefix: str, card: DataCard, about: Mapping[str, Any]) -> list[dict[str, str]]:
    """Write the card of a dataset version and return keys and digests of its files, for the manifest.

    Args:
        storage: The root.
        prefix: Folder of the version.
        card: What was counted.
        about: What rows do not show; see ``card_markdown``.
    """
    figures = card.figures(about)
    files = dict(zip(CARD_FIGURES, (canonical_json(figures), card_markdown(figures).encode()), strict=True))
    if sheet := card.sample_sheet():
        files[SAMPLES] = sheet
    for name, data in files.items():
        storage.put(f"{prefix}/{name}", data)
    return [{"key": f"{prefix}/{name}", "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()]


def card_markdown(figures: Mapping[str, Any]) -> str:
    """Return a card for people to read.

    Args:
        figures: What ``DataCard.figures`` returned for ``name``, ``version``, ``image_size``, ``num_inputs``,
            ``num_accepted``, ``num_quarantined``, ``reasons`` and ``leaks``.
    """
    leaks = figures["leaks"]
    across, moved = leaks["groups_across_splits"], leaks["rows_moved"]
    words, joins = figures["words"], figures["joins"]
    parts = [
        f"# Dataset `{figures['name']}`, version `{figures['version']}`",
        f"{figures['num_inputs']} inputs, {figures['num_accepted']} accepted, {figures['num_quarantined']} refused. "
        f"{figures['num_films']} films of at most {figures['image_size']} px, {figures['num_films_with_boxes']} of "
        f"them with boxes. {joins['films_without_text']} films have no text, {joins['texts_without_film']} texts no "
        f"film; {joins['texts_without_findings']} texts are an impression alone.",
        _table(("split", "rows", "patients", "studies"), ((k, *v.values()) for k, v in figures["splits"].items())),
        f"No patient, group or exposure lies in two splits: {leaks['near_duplicate_pairs']} pairs of films of "
        f"different patients show the same exposure; {across} groups would have lain in several splits, {moved} rows "
        "moved to the most held-out one.",
        "## Labels",
        _table(
            ("label", "positive", "negative", "uncertain", "unmentioned", "share positive"),
            ((label, *_label_cells(counts)) for label, counts in figures["labels"].items()),
        ),
        "## Words per section",
        _table(
            ("at least", *words),
            ((step, *(counts[str(step)] for counts in words.values())) for step in _WORD_STEPS),
        ),
    ]
    for title, name in (
        ("View", "view_positions"), ("Original size", "original_sizes"), ("Sex", "sexes"), ("Age", "age_bands"),
        ("Maker", "manufacturers"), ("Kind of archive", "sources"), ("Source of labels", "label_sources"),
        ("Refused for", "reasons"),
    ):  # fmt: skip
        parts.append(_table((title, "number"), figures[name].items()))
    parts.append("`samples.png` beside this card shows films of patients: it stays in the zone of the root.")
    return "\n\n".join(parts) + "\n"


def _in_order(counts: Mapping[str | None, int], words: Iterable[str]) -> dict[str, int]:
    """Return how many films each word is known of, those that occur in their order, and of how many none is."""
    return {word: counts[word] for word in words if word in counts} | {"unknown": counts.get(None, 0)}


def _label_figures(counts: Mapping[str, int]) -> dict[str, float]:
    known = {name: counts.get(name, 0) for name in (*_VALUES.values(), "unmentioned")}
    total = sum(known.values())
    return {**known, "share_positive": round(known["positive"] / total, 4) if total else 0.0}


def _label_cells(counts: Mapping[str, float]) -> tuple[object, ...]:
    return tuple(counts.values())


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) - 1)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _step_of(num_words: int) -> int:
    return max(step for step in _WORD_STEPS if step <= num_words)


def _size_class(width: int, height: int) -> str:
    """Return a size to the next hundred pixels, since archives hold many sizes."""
    return f"{round(width, -2)} x {round(height, -2)}"


def _short(pseudonym: str) -> bytes:
    """Return eight bytes of a pseudonym, enough to count with."""
    return hashlib.sha256(pseudonym.encode()).digest()[:8]
