"""Look-up tables of a radiograph: modality and VOI tables, palettes, plain or in segments.

Entries may be bytes in the file's byte order or numbers, eight bits packed or one to a word. Knows no window and no
polarity; see ``dicom.display``.

Source: DICOM PS3.3 C.7.6.3.1.5 (palette), C.7.9.2 (segmented palette), C.11.1 and C.11.2 (modality and VOI LUT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from crrg.data.dicom.header import float_values
from crrg.data.greyscale import luminance
from crrg.errors import DicomError

MAX_ENTRIES = 65536
_DISCRETE, _LINEAR, _INDIRECT = range(3)


@dataclass(frozen=True)
class LookUpTable:
    """A table and where it begins.

    Attributes:
        entries: Output values ``[N]``.
        first: Input value of the first entry; smaller inputs get it too.
    """

    entries: NDArray[np.float32]
    first: int

    def read(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Look values up: between entries linearly, beyond the ends clamped."""
        inputs = np.arange(self.first, self.first + len(self.entries))
        return np.interp(values, inputs, self.entries).astype(np.float32)


def first_table(attributes: Dataset, name: str, lowest: float) -> LookUpTable | None:
    """Return the first table of a sequence, or ``None`` where there is no usable one.

    Args:
        attributes: The data set.
        name: ``ModalityLUTSequence`` or ``VOILUTSequence``.
        lowest: Smallest input value; tells whether a large first input means a negative one.
    """
    sequence = attributes.get(name)
    if not sequence:
        return None
    descriptor, data = float_values(sequence[0], "LUTDescriptor"), sequence[0].get("LUTData")
    if len(descriptor) != 3 or data is None:
        return None
    num_entries, first = int(descriptor[0]) & 0xFFFF or MAX_ENTRIES, int(descriptor[1])
    entries = _entries(data, num_entries, attributes)
    if len(entries) != num_entries:
        return None
    return LookUpTable(entries.astype(np.float32), first - 65536 if first > 32767 and lowest < 0 else first)


def apply_palette(indices: NDArray[Any], attributes: Dataset) -> NDArray[np.uint8]:
    """Return the brightness of a palette picture, indices beyond its ends clamped.

    Raises:
        DicomError: PHOTOMETRIC.PALETTE where a table is missing or too short.
    """
    channels = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = float_values(attributes, f"{colour}PaletteColorLookupTableDescriptor")
        if len(descriptor) != 3 or descriptor[2] not in (8, 16):
            raise DicomError("a palette table is not described", code="PHOTOMETRIC.PALETTE")
        num_entries, first = int(descriptor[0]) & 0xFFFF or MAX_ENTRIES, int(descriptor[1])
        first = first - 65536 if first > 32767 and int(indices.min()) < 0 else first
        entries = _palette_entries(attributes, colour, num_entries, is_wide=descriptor[2] == 16)
        if len(entries) != num_entries:
            raise DicomError("a palette table does not have the announced length", code="PHOTOMETRIC.PALETTE")
        channels.append(entries[np.clip(indices.astype(np.int64) - first, 0, num_entries - 1)])
    colours = np.stack(channels, axis=-1)
    # some writers keep eight bits in a table of sixteen
    return luminance(colours >> 8 if int(colours.max()) > 255 else colours)


def expand_segments(words: NDArray[Any], num_entries: int) -> NDArray[np.uint16]:
    """Write out a segmented palette: runs of values, straight lines, and repetitions of earlier segments.

    Args:
        words: The segments, 8 or 16 bits a word.
        num_entries: Entries announced; never more are made.

    Raises:
        DicomError: PHOTOMETRIC.PALETTE where the segments make no sense.
    """
    made: list[int] = []
    values = np.asarray(words, np.int64)
    starts: list[int] = []
    position = 0
    while position + 2 <= len(values) and len(made) < num_entries:
        starts.append(position)
        if values[position] != _INDIRECT:
            position = _append_segment(values, position, made)
            continue
        num_segments = int(values[position + 1])
        offset = int(values[position + 2]) | int(values[position + 3]) << 16 if position + 4 <= len(values) else -1
        if offset not in starts[:-1]:
            raise DicomError("a palette segment repeats no earlier one", code="PHOTOMETRIC.PALETTE")
        first = starts.index(offset)
        for start in starts[first : min(first + num_segments, len(starts) - 1)]:
            if values[start] != _INDIRECT:
                _append_segment(values, start, made)
        position += 4
    return np.asarray(made[:num_entries], np.uint16)


def _append_segment(words: NDArray[np.int64], position: int, made: list[int]) -> int:
    """Append the values of a discrete or linear segment; return where the next one begins."""
    kind, length = int(words[position]), int(words[position + 1])
    if kind == _DISCRETE and length and position + 2 + length <= len(words):
        made += words[position + 2 : position + 2 + length].tolist()
        return position + 2 + length
    if kind == _LINEAR and length and made and position + 3 <= len(words):
        line = np.linspace(made[-1], int(words[position + 2]), length + 1)[1:]
        made += np.rint(line).astype(int).tolist()
        return position + 3
    raise DicomError("a palette segment makes no sense", code="PHOTOMETRIC.PALETTE")


def _palette_entries(attributes: Dataset, colour: str, num_entries: int, *, is_wide: bool) -> NDArray[Any]:
    data = attributes.get(f"{colour}PaletteColorLookupTableData")
    if isinstance(data, bytes) and data:
        return _entries(data, num_entries, attributes)
    segments = attributes.get(f"Segmented{colour}PaletteColorLookupTableData")
    if not isinstance(segments, bytes) or not segments:
        raise DicomError("a palette table is missing", code="PHOTOMETRIC.PALETTE")
    num_words = len(segments) // 2 if is_wide else len(segments)
    return expand_segments(np.frombuffer(segments, _word_type(attributes) if is_wide else "u1", num_words), num_entries)


def _entries(data: Any, num_entries: int, attributes: Dataset) -> NDArray[Any]:
    """Return at most ``num_entries`` table entries from bytes or numbers."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data))[:num_entries]
    words = _word_type(attributes)
    if len(data) >= 2 * num_entries:
        return np.frombuffer(data, words, num_entries)
    packed = np.frombuffer(data, np.uint8)
    if words == ">u2" and len(packed) % 2 == 0:
        packed = packed.view(">u2").astype("<u2").view(np.uint8)
    return packed[:num_entries]


def _word_type(attributes: Dataset) -> str:
    return ">u2" if attributes.original_encoding[1] is False else "<u2"
