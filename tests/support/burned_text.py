"""Films with text burned in by code: names, dates and numbers as machines write them, and markers that are legal."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crrg.data.phantom.painter import paint
from crrg.data.phantom.sampler import sample_scene

SEED = 77
STYLES = ("plain", "grey", "boxed", "inverse_box", "outline")
FACES = ("sans", "sans_bold", "sans_thin", "italic", "serifless", "dots")
PLACES = ("top_left", "top_right", "bottom_left", "bottom_right", "top", "bottom", "left_turned", "right_turned")
SIDES = ("L", "R", "AP", "PA", "L AP", "R PA")
POSITIONS = ("PORTABLE", "ERECT", "SUPINE", "UPRIGHT", "MOBILE", "AP ERECT", "PORTABLE AP", "AP SUPINE")
_FAMILIES = ("SMITHSON", "GARCIA", "OKONKWO", "LINDQVIST", "PETERS", "NAKAMURA", "FERRARI", "DUBOIS")
_GIVEN = ("ANNA", "JOHN", "MARIE", "KENJI", "PAUL", "OLGA")
_HOSPITALS = ("ST MARY HOSPITAL", "General Hospital", "CITY CLINIC", "UNIVERSITY MEDICAL CENTRE")
_FACE_NUMBERS = {"sans": 0, "sans_bold": 2, "sans_thin": 5, "italic": 6}


@dataclass(frozen=True)
class BurnedText:
    """What was burned in and how.

    Attributes:
        text: The row.
        height: Height of a capital, pixels.
        style: One of ``STYLES``.
        face: One of ``FACES``.
        place: One of ``PLACES``.
        noise: Deviation of noise added afterwards, grey levels of 255.
        quality: JPEG quality it was saved with; 0 = not at all.
    """

    text: str
    height: int
    style: str
    face: str
    place: str
    noise: float
    quality: int


def drawn_grey(index: int, size: int) -> NDArray[np.uint8]:
    """Return a drawn film, uint8 ``[H, W]``; every third in the stored polarity of MONOCHROME1."""
    film = paint(sample_scene(SEED, index), SEED, size)
    return (film.pixels >> 4).astype(np.uint8)


def sample_text(rng: np.random.Generator, min_height: int = 8, max_height: int = 40) -> BurnedText:
    """Return a text as it may stand on a film, at least six characters."""
    return BurnedText(
        text=_sample_words(rng),
        height=int(rng.integers(min_height, max_height + 1)),
        style=STYLES[rng.integers(len(STYLES))],
        face=FACES[rng.integers(len(FACES))],
        place=PLACES[rng.integers(len(PLACES))],
        noise=float(rng.choice([0.0, 0.0, 3.0, 6.0])),
        quality=int(rng.choice([0, 0, 95, 85, 70])),
    )


def sample_marker(rng: np.random.Generator, words: tuple[str, ...] = SIDES) -> BurnedText:
    """Return a legal marker, usually larger than text."""
    return BurnedText(
        text=words[rng.integers(len(words))],
        height=int(rng.integers(14, 61)),
        style=("plain", "plain", "grey", "outline")[rng.integers(4)],
        face=FACES[rng.integers(len(FACES) - 1)],
        place=PLACES[rng.integers(6)],
        noise=float(rng.choice([0.0, 0.0, 3.0, 6.0])),
        quality=int(rng.choice([0, 0, 95, 85, 70])),
    )


def burn(grey: NDArray[np.uint8], text: BurnedText, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a film with a row of text on it, or the film itself where the row would not fit."""
    mask = _render(text.text, text.face, text.height)
    mask = np.pad(mask, max(3, text.height // 3))
    if text.place.endswith("turned"):
        mask = np.rot90(mask, 1 if text.place.startswith("left") else 3)
    height, width = mask.shape
    if height >= grey.shape[0] or width >= grey.shape[1]:
        return grey
    top, left = _corner(grey.shape, (height, width), text.place, rng)
    out = grey.astype(np.float32)
    area = out[top : top + height, left : left + width]
    ink, paper = _colours(float(np.median(area)), text.style, rng)
    cover = mask.astype(np.float32) / 255
    if text.style in ("boxed", "inverse_box"):
        area[:] = paper
    if text.style == "outline":
        halo = cv2.dilate(cover, np.ones((3, 3), np.uint8))
        area += halo * (paper - area)
    area += cover * (ink - area)
    if text.noise:
        out += rng.normal(0, text.noise, out.shape).astype(np.float32)
    burned = np.rint(out.clip(0, 255)).astype(np.uint8)
    if text.quality:
        packed = cv2.imencode(".jpg", burned, [cv2.IMWRITE_JPEG_QUALITY, text.quality])[1]
        burned = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    return burned


def _sample_words(rng: np.random.Generator) -> str:
    family, given = _FAMILIES[rng.integers(len(_FAMILIES))], _GIVEN[rng.integers(len(_GIVEN))]
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(1931, 2024))
    number = int(rng.integers(10**5, 10**8))
    hospital = _HOSPITALS[rng.integers(len(_HOSPITALS))]
    rows = (
        f"{family}, {given}",
        f"{family.title()} {given.title()}",
        f"{day:02d}/{month:02d}/{year}",
        f"{year}-{month:02d}-{day:02d} {day % 24:02d}:{month:02d}:{day:02d}",
        f"ID {number}",
        f"MRN: {number}",
        hospital,
        f"{family} {day}.{month}.{year}",
        f"ACC {number} {family[:3]}",
        family.ljust(6, "A"),
    )
    return rows[rng.integers(len(rows))]


def _render(text: str, face: str, height: int) -> NDArray[np.uint8]:
    """Return the row as coverage, uint8, cut to its ink; a capital is about ``height`` pixels high."""
    if face == "dots":
        font = ImageFont.load_default_imagefont()
        picture = Image.new("L", (12 * len(text) + 8, 20))
        ImageDraw.Draw(picture).text((2, 2), text, font=font, fill=255)
        times = max(1, round(height / 8))
        dots = np.asarray(picture)
        return _cut(np.kron((dots > 100).astype(np.uint8) * 255, np.ones((times, times), np.uint8)))
    if face == "serifless":
        font = ImageFont.load_default(height / 0.72)
        picture = Image.new("L", (2 * height * len(text) + 40, 3 * height + 20))
        ImageDraw.Draw(picture).text((10, 10), text, font=font, fill=255)
        return _cut(np.asarray(picture))
    canvas = np.zeros((4 * height + 20, 2 * height * len(text) + 40), np.uint8)
    number = _FACE_NUMBERS[face]
    capital = cv2.getTextSize("H", number, 1.0, 1)[0][1]
    cv2.putText(canvas, text, (10, 2 * height + 10), number, height / capital, 255, max(1, height // 12), cv2.LINE_AA)
    return _cut(canvas)


def _cut(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _corner(film: tuple[int, ...], size: tuple[int, int], place: str, rng: np.random.Generator) -> tuple[int, int]:
    free_y, free_x = film[0] - size[0], film[1] - size[1]
    inset_y, inset_x = (round(rng.uniform(0, 0.06) * free) for free in (free_y, free_x))
    top = inset_y if place.startswith("top") else free_y - inset_y if place.startswith("bottom") else free_y // 3
    if place in ("top", "bottom"):
        return top, free_x // 2
    return top, inset_x if place.endswith("left") or place.startswith("left") else free_x - inset_x


def _colours(around: float, style: str, rng: np.random.Generator) -> tuple[float, float]:
    """Return the grey of ink and paper that a person could read on these surroundings."""
    if style == "boxed":
        return float(rng.choice([255, 200])), 0.0
    if style == "inverse_box":
        return 0.0, float(rng.choice([255, 220]))
    if style == "grey":
        step = rng.uniform(90, 130)
        return (around + step, 0.0) if around + step <= 255 else (around - step, 255.0)
    return (255.0, 0.0) if around < 150 else (0.0, 255.0)
