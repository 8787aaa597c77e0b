"""From stored values to the grey that a radiologist sees: white is dense, exactly once inverted.

The picture is resized at its native depth first and windowed afterwards, which is 24 times fewer pixels to window and
the same filter as on a windowed film. Knows no codec and no identity; tables are read by ``dicom.tables``.

Source: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.5 (palette), C.7.5.1.1.2 (padding), C.8.11.3
(presentation LUT shape, pixel intensity relationship of DX images).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from crrg.data.dicom.header import FOR_PROCESSING, PixelLayout, float_values, int_value, text_value
from crrg.data.dicom.tables import apply_palette, first_table
from crrg.data.greyscale import check_not_blank, luminance, stretch_unit
from crrg.data.images import fitted_size, resize
from crrg.data.polarity import Stated, judge_polarity

MAX_CLIPPED_SHARE = 0.5
"""A window that turns more than this share of the film into pure black or white is not meant for it."""
MIN_SHOWN_RANGE = 4 / 255
"""A window that leaves less than this of black to white shows nothing."""
_FloatPixels = NDArray[np.float32]


@dataclass(frozen=True)
class GreyPicture:
    """A film as one number per pixel, at full resolution, not yet windowed.

    Attributes:
        values: uint8, uint16 or int16 ``[H, W]``, padding replaced by the value shown darkest.
        is_padding: bool ``[H, W]``, or ``None`` where nothing is padded.
        polarity: Which end is dense, by the header.
    """

    values: NDArray[Any]
    is_padding: NDArray[np.bool_] | None
    polarity: Stated


@dataclass(frozen=True)
class Displayed:
    """A film as it is shown.

    Attributes:
        pixels: uint8 ``[H, W]``, white = dense.
        original_width: Width after resampling to square pixels.
        original_height: Height after resampling to square pixels.
        polarity_inverted: Whether values were inverted.
        flags: Remarks on windows, slopes and polarity.
    """

    pixels: NDArray[np.uint8]
    original_width: int
    original_height: int
    polarity_inverted: bool
    flags: tuple[str, ...]


def to_grey(stored: NDArray[Any], layout: PixelLayout, attributes: Dataset) -> GreyPicture:
    """Bring colour, palette and padding of a film into one number per pixel.

    Args:
        stored: ``[H, W]`` or ``[H, W, 3]`` stored values.
        layout: Geometry, bits, photometric interpretation.
        attributes: Palette, padding, polarity.

    Raises:
        DataError: PHOTOMETRIC where a palette cannot be used, QUALITY.BLANK where nothing is to be seen.
    """
    polarity = stated_polarity(attributes, layout.photometric)
    padding: NDArray[np.bool_] | None = None
    if layout.photometric == "PALETTE COLOR":
        grey, num_levels = apply_palette(stored, attributes), 256
    elif layout.samples == 1:
        padding = _find_padding(stored, attributes, is_signed=layout.is_signed)
        falls = polarity.inverts != (min(float_values(attributes, "RescaleSlope")[:1], default=1) < 0)
        grey, num_levels = _without_padding(stored, padding, falls=falls), 1 << layout.bits_stored
    elif layout.photometric in ("YBR_FULL", "YBR_FULL_422"):
        grey, num_levels = np.ascontiguousarray(stored[..., 0]), 256
    else:
        grey, num_levels = luminance(stored), 256
    check_not_blank(grey, num_levels)
    return GreyPicture(grey, padding, polarity)


def stated_polarity(attributes: Dataset, photometric: str) -> Stated:
    """Tell from the header whether values must be inverted to make white dense.

    The photometric interpretation decides. A film for processing may say how its values relate to the beam instead: a
    detector that counts more where more rays arrive shows lungs bright whatever its photometric interpretation. A
    presentation LUT shape that contradicts the photometric interpretation leaves the header uncertain.
    """
    if not photometric.startswith("MONO"):
        return Stated(inverts=False, is_certain=True)
    inverts = photometric == "MONOCHROME1"
    shape = text_value(attributes, "PresentationLUTShape").upper()
    contradicts = shape == ("IDENTITY" if inverts else "INVERSE")
    is_raw = "FOR PROCESSING" in text_value(attributes, "PresentationIntentType").upper()
    if not is_raw and text_value(attributes, "SOPClassUID") != FOR_PROCESSING:
        return Stated(inverts, is_certain=not contradicts)
    sign = int_value(attributes, "PixelIntensityRelationshipSign", 0)
    return Stated(sign == 1, is_certain=True) if sign in (1, -1) else Stated(inverts, is_certain=False)


def display(grey: GreyPicture, layout: PixelLayout, attributes: Dataset, aspect: float, image_size: int) -> Displayed:
    """Resize and window a film, and make white dense.

    Args:
        grey: The film.
        layout: Samples per pixel and photometric interpretation.
        attributes: Look-up tables and windows.
        aspect: Height of a stored pixel over its width.
        image_size: Longest side of the result, pixels.

    Returns:
        The film; a window or table that leaves nothing to be seen was not used.
    """
    height, width = grey.values.shape
    square_width = width if aspect >= 1 else max(1, round(width / aspect))
    square_height = height if aspect <= 1 else max(1, round(height * aspect))
    size = fitted_size(square_width, square_height, image_size)
    small = resize(grey.values, *size).astype(np.float32)
    outside = None if grey.is_padding is None else np.asarray(resize(grey.is_padding.astype(np.uint8), *size), bool)
    is_colour = layout.samples == 3 or layout.photometric.startswith("PAL")
    windowed, flags = _as_colour(small) if is_colour else _window(small, outside, attributes)
    shown = np.rint(windowed * np.float32(255)).astype(np.uint8)
    verdict = judge_polarity(shown, grey.polarity)
    pixels = 255 - shown if verdict.inverts else shown
    if outside is not None:
        pixels[outside] = 0
    return Displayed(
        pixels=pixels,
        original_width=square_width,
        original_height=square_height,
        polarity_inverted=verdict.inverts,
        flags=(*flags, *verdict.flags),
    )


def _find_padding(values: NDArray[Any], attributes: Dataset, *, is_signed: bool) -> NDArray[np.bool_] | None:
    limits = float_values(attributes, "PixelPaddingValue")[:1] + float_values(attributes, "PixelPaddingRangeLimit")[:1]
    if not limits:
        return None
    # some writers give a signed value in an unsigned attribute, or the reverse
    limits = [limit - 65536 if is_signed and limit > 32767 else limit for limit in limits]
    limits = [limit + 65536 if not is_signed and limit < 0 else limit for limit in limits]
    is_padding = (values >= min(limits)) & (values <= max(limits))
    return None if not is_padding.any() or is_padding.all() else np.asarray(is_padding)


def _without_padding(values: NDArray[Any], padding: NDArray[np.bool_] | None, *, falls: bool) -> NDArray[Any]:
    """Replace padding by the value that is shown darkest, so that it neither stretches nor brightens the film.

    ``falls`` says that higher values are shown darker.
    """
    if padding is None:
        return values
    inside = values[~padding]
    return np.where(padding, inside.max() if falls else inside.min(), values)


def _as_colour(values: _FloatPixels) -> tuple[_FloatPixels, list[str]]:
    return np.asarray(np.clip(values / np.float32(255), 0, 1), dtype=np.float32), []


def _window(
    values: _FloatPixels, outside: NDArray[np.bool_] | None, attributes: Dataset
) -> tuple[_FloatPixels, list[str]]:
    """Return values as 0..1 by the first usable rule: VOI table, windows, percentiles."""
    values, flags = _modality(values, attributes)
    inside = slice(None) if outside is None or outside.all() else ~outside
    for shown in [_voi_table(values, attributes), *_voi_windows(values, attributes)]:
        if shown is None:
            continue
        seen = shown[inside]
        clipped = float(((seen <= 0) | (seen >= 1)).mean())
        if clipped <= MAX_CLIPPED_SHARE and float(np.ptp(seen)) >= MIN_SHOWN_RANGE:
            return shown, flags
        if "window_dropped" not in flags:
            flags.append("window_dropped")
    return stretch_unit(values, values[inside]), flags


def _modality(values: _FloatPixels, attributes: Dataset) -> tuple[_FloatPixels, list[str]]:
    table = first_table(attributes, "ModalityLUTSequence", float(values.min()))
    if table is not None:
        return table.read(values), []
    slope = (float_values(attributes, "RescaleSlope") or [1.0])[0]
    intercept = (float_values(attributes, "RescaleIntercept") or [0.0])[0]
    if slope == 0:
        return values, ["rescale_ignored"]
    rescaled = (values * np.float32(slope) + np.float32(intercept)).astype(np.float32)
    return (rescaled, []) if np.isfinite(rescaled).all() else (values, ["rescale_ignored"])


def _voi_table(values: _FloatPixels, attributes: Dataset) -> _FloatPixels | None:
    table = first_table(attributes, "VOILUTSequence", float(values.min()))
    if table is None:
        return None
    low, high = float(table.entries.min()), float(table.entries.max())
    return None if high <= low else np.asarray((table.read(values) - low) / (high - low), dtype=np.float32)


def _voi_windows(values: _FloatPixels, attributes: Dataset) -> list[_FloatPixels | None]:
    """Return the film under each window of the header, in their order."""
    function = text_value(attributes, "VOILUTFunction").upper()
    pairs = zip(float_values(attributes, "WindowCenter"), float_values(attributes, "WindowWidth"), strict=False)
    return [_voi_window(values, center, width, function) for center, width in pairs]


def _voi_window(values: _FloatPixels, center: float, width: float, function: str) -> _FloatPixels | None:
    if function == "SIGMOID" and width > 0:
        exponent = np.clip(-4 * (values - np.float32(center)) / np.float32(width), -80, 80)
        return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float32)
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1
    if width <= 0:
        return None
    return np.asarray(np.clip((values - np.float32(center)) / np.float32(width) + 0.5, 0, 1), dtype=np.float32)
