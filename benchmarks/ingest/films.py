"""Drawn films of the size and the encodings of a hospital's archive, as folders that ingest can read."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate

from crrg.data.phantom.cohort import drawn_study
from crrg.data.phantom.dicom_writer import drawn_ids, write_dicom
from crrg.data.phantom.exposure import BITS_STORED, MAX_VALUE
from crrg.data.phantom.painter import paint

ROWS, COLUMNS = 2500, 2048
JPEG_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"
Pixels = NDArray[np.uint16]
NOISE_SHARE = 0.4
"""Photon noise: standard deviation over the square root of the grey value."""


def _jpeg_lossless(pixels: Pixels) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(pixels, bitspersample=BITS_STORED))


def _jpeg_2000(pixels: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", bitspersample=BITS_STORED))


ENCODINGS: Mapping[str, tuple[str, Callable[[Pixels], bytes]] | None] = {
    "uncompressed": None,
    "JPEG lossless": (JPEG_LOSSLESS, _jpeg_lossless),
    "JPEG 2000": (JPEG_2000, _jpeg_2000),
}


def write_films(
    folder: Path, num_films: int, encoding: str, *, rows: int = ROWS, columns: int = COLUMNS, painted: int = 256
) -> None:
    """Draw films into an empty folder; what an earlier call wrote there is kept.

    Args:
        folder: Where they go.
        num_films: How many.
        encoding: One of ``ENCODINGS``.
        rows: Height, pixels.
        columns: Width, pixels.
        painted: Longer side at which the anatomy is drawn before it is enlarged and given photon noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(NOISE_SHARE)
    for index in range(num_films):
        path = folder / f"{index:05d}.dcm"
        if not path.exists():
            temporary = path.with_suffix(".part")
            temporary.write_bytes(_film_bytes(index, encoding, noise, painted))
            temporary.rename(path)


def _film_bytes(index: int, encoding: str, noise: NDArray[np.float32], painted: int) -> bytes:
    scene = drawn_study(0, index).scene
    film = paint(scene, 0, painted)
    rows, columns = noise.shape
    large = cv2.resize(film.pixels.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    grain = np.roll(noise, (index * 37 % rows, index * 91 % columns), axis=(0, 1))
    pixels = np.clip(large + grain * np.sqrt(np.maximum(large, 1)), 0, MAX_VALUE).astype(np.uint16)
    data = write_dicom(replace(film, pixels=pixels), scene, drawn_ids(scene, 0), 0)
    codec = ENCODINGS[encoding]
    return data if codec is None else _encapsulated(data, codec[0], codec[1](pixels))


def _encapsulated(data: bytes, syntax: str, codestream: bytes) -> bytes:
    dataset: Any = dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()
