"""From stored values to the grey that a radiologist sees: white is dense, exactly once inverted.

The picture is resized at its native depth first and windowed afterwards, which is 24 times fewer pixels to window and
the same filter as on a windowed film. Knows no codec and no identity.

Source: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.5 (palette), C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from crrg.data.dicom_header import PixelLayout, float_values, text_value
from crrg.data.greyscale import check_not_blank, luminance, stretch_unit
from crrg.data.images import fitted_size, resize
from crrg.errors import DicomError

MAX_CLIPPED_SHARE = 0.5
"""A window that turns more than this share of the film into pure black or white is not meant for it."""
_FloatPixels = NDArray[np.float32]


@dataclass(frozen=True)
class Displayed:
    """A film as it is shown.

    Attributes:
        pixels: uint8 ``[H, W]``, white = dense.
        original_width: Width after resampling to square pixels.
        original_height: Height after resampling to square pixels.
        polarity_inverted: Whether values were inverted.
        flags: Remarks on windows and slopes that were not used.
    """

    pixels: NDArray[np.uint8]
    original_width: int
    original_height: int
    polarity_inverted: bool
    flags: tuple[str, ...]


def display(
    stored: NDArray[Any], layout: PixelLayout, attributes: Dataset, aspect: float, image_size: int
) -> Displayed:
    """Make the grey picture of a film.

    Args:
        stored: ``[H, W]`` or ``[H, W, 3]`` stored values.
        layout: Geometry, bits, photometric interpretation.
        attributes: Look-up tables, windows, padding.
        aspect: Height of a stored pixel over its width.
        image_size: Longest side of the result, pixels.

    Raises:
        DataError: PHOTOMETRIC where a palette cannot be used, QUALITY.BLANK where nothing is to be seen.
    """
    grey, bits = _to_grey(stored, layout, attributes)
    inverts = layout.photometric == "MONOCHROME1"
    if layout.samples == 1 and not layout.photometric.startswith("PAL"):
        grey = _without_padding(grey, attributes, inverts)
    check_not_blank(grey, 1 << bits)
    height, width = grey.shape
    square_width = width if aspect >= 1 else max(1, round(width / aspect))
    square_height = height if aspect <= 1 else max(1, round(height * aspect))
    small = resize(grey, *fitted_size(square_width, square_height, image_size)).astype(np.float32)
    windowed, flags = _window(small, layout, attributes)
    pixels = np.rint(windowed * np.float32(255)).astype(np.uint8)
    return Displayed(
        pixels=255 - pixels if inverts else pixels,
        original_width=square_width,
        original_height=square_height,
        polarity_inverted=inverts,
        flags=tuple(flags),
    )


def _to_grey(stored: NDArray[Any], layout: PixelLayout, attributes: Dataset) -> tuple[NDArray[Any], int]:
    """Return ``[H, W]`` values and their depth in bits."""
    if layout.photometric == "PALETTE COLOR":
        return _apply_palette(stored, attributes), 8
    if layout.samples == 1:
        return stored, layout.bits_stored
    if layout.photometric in ("YBR_FULL", "YBR_FULL_422"):
        return np.ascontiguousarray(stored[..., 0]), 8
    return luminance(stored), 8


def _apply_palette(indices: NDArray[Any], attributes: Dataset) -> NDArray[np.uint8]:
    channels = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = float_values(attributes, f"{colour}PaletteColorLookupTableDescriptor")
        data = attributes.get(f"{colour}PaletteColorLookupTableData")
        if len(descriptor) != 3 or not isinstance(data, bytes):
            raise DicomError("a palette table is missing", code="PHOTOMETRIC.PALETTE")
        num_entries, first, bits = (int(value) for value in descriptor)
        num_entries = num_entries or 65536
        wide = bits == 16 and len(data) >= 2 * num_entries
        table = np.frombuffer(data, "<u2" if wide else np.uint8)[:num_entries]
        if bits not in (8, 16) or len(table) != num_entries:
            raise DicomError("a palette table does not have the announced length", code="PHOTOMETRIC.PALETTE")
        channels.append((table >> 8 if wide else table)[np.clip(indices.astype(np.int64) - first, 0, num_entries - 1)])
    return luminance(np.stack(channels, axis=-1))


def _without_padding(values: NDArray[Any], attributes: Dataset, inverts: bool) -> NDArray[Any]:
    """Replace padding by the value that is shown darkest, so that it neither stretches nor brightens the film."""
    limits = float_values(attributes, "PixelPaddingValue")[:1] + float_values(attributes, "PixelPaddingRangeLimit")[:1]
    if not limits:
        return values
    is_padding = (values >= min(limits)) & (values <= max(limits))
    if not is_padding.any() or is_padding.all():
        return values
    inside = values[~is_padding]
    return np.where(is_padding, inside.max() if inverts else inside.min(), values)


def _window(values: _FloatPixels, layout: PixelLayout, attributes: Dataset) -> tuple[_FloatPixels, list[str]]:
    """Return values as 0..1 by the first usable rule: VOI table, window, percentiles."""
    flags: list[str] = []
    if layout.samples == 3 or layout.photometric.startswith("PAL"):
        return np.clip(values / np.float32(255), 0, 1), flags
    values, table_flags = _modality(values, attributes)
    flags += table_flags
    for rule in (_voi_table, _voi_window):
        shown = rule(values, attributes)
        if shown is None:
            continue
        clipped = float(((shown <= 0) | (shown >= 1)).mean())
        if clipped <= MAX_CLIPPED_SHARE:
            return shown, flags
        flags.append("window_dropped")
    return stretch_unit(values), flags


def _modality(values: _FloatPixels, attributes: Dataset) -> tuple[_FloatPixels, list[str]]:
    table = _first_table(attributes, "ModalityLUTSequence")
    if table is not None:
        return _look_up(values, *table), []
    slope = (float_values(attributes, "RescaleSlope") or [1.0])[0]
    intercept = (float_values(attributes, "RescaleIntercept") or [0.0])[0]
    if slope == 0:
        return values, ["rescale_ignored"]
    return (values * np.float32(slope) + np.float32(intercept)).astype(np.float32), []


def _voi_table(values: _FloatPixels, attributes: Dataset) -> _FloatPixels | None:
    table = _first_table(attributes, "VOILUTSequence")
    if table is None:
        return None
    shown = _look_up(values, *table)
    low, high = float(table[0].min()), float(table[0].max())
    return None if high <= low else np.asarray((shown - low) / (high - low), dtype=np.float32)


def _voi_window(values: _FloatPixels, attributes: Dataset) -> _FloatPixels | None:
    centers, widths = float_values(attributes, "WindowCenter"), float_values(attributes, "WindowWidth")
    if not centers or not widths:
        return None
    center, width = centers[0], widths[0]
    function = text_value(attributes, "VOILUTFunction").upper()
    if function == "SIGMOID" and width > 0:
        return np.asarray(1 / (1 + np.exp(-4 * (values - center) / width)), dtype=np.float32)
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1
    if width <= 0:
        return None
    return np.asarray(np.clip((values - center) / width + 0.5, 0, 1), dtype=np.float32)


def _first_table(attributes: Dataset, name: str) -> tuple[NDArray[Any], int] | None:
    """Return a look-up table and its first input value, or ``None`` where there is no usable one."""
    sequence = attributes.get(name)
    if not sequence:
        return None
    item = sequence[0]
    descriptor, data = float_values(item, "LUTDescriptor"), item.get("LUTData")
    if len(descriptor) != 3 or data is None:
        return None
    num_entries = int(descriptor[0]) or 65536
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * num_entries else np.uint8)
    table = np.atleast_1d(np.asarray(data))[:num_entries]
    return (table, int(descriptor[1])) if len(table) == num_entries else None


def _look_up(values: _FloatPixels, table: NDArray[Any], first: int) -> _FloatPixels:
    """Read a table at ``values``, between its entries linearly, beyond its ends clamped."""
    return np.interp(values, np.arange(first, first + len(table)), table.astype(np.float32)).astype(np.float32)
