"""The few words that belong on a film: which side, which position, how it was taken.

Radiographers put them there in lead or by machine. A word on the film is compared with drawings of these words in a
few type faces, letter by letter and as a whole; a name of the same length does not fit. Knows no film and no place.
"""

from __future__ import annotations

import string
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WORDS = (
    *("L", "R", "LEFT", "RIGHT", "AP", "PA", "LAT", "LATERAL", "CHEST", "CR", "DX", "INSP", "EXP", "INSPIRATION"),
    *("EXPIRATION", "PORT", "PORTABLE", "MOBILE", "ERECT", "UPRIGHT", "SITTING", "STANDING", "SEMI", "SUPINE"),
    *("PRONE", "RECUMBENT", "DECUBITUS", "LIEGEND", "STEHEND", "SITZEND", "BETTAUFNAHME", "SEDUTO", "SUPINO"),
    *("DECUBITO", "DEBOUT", "COUCHE", "ASSIS", "ACOSTADO", "SENTADO"),
)
"""Side, projection and position in the languages of the films that we have seen."""
_Grey: TypeAlias = NDArray[np.uint8]
_Boxes: TypeAlias = NDArray[np.int64]
_WORD_GAP = 0.12
"""Share of the letters' height from which a gap may part words."""
_MAX_LETTERS = 24
_MAX_CUTS = 6
_FACES = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)
_MAX_WORDS = 3
_WIDEST_LETTER = 1.5
_SIDE = 16
_SOFTENING_PIXELS = 1.0
_MIN_LETTER_FIT = 0.88
_MAX_LETTER_DOUBT = 0.12
_MIN_WORD_FIT = 0.8
_MAX_WIDER = 1.5
_MIN_SPOTTED_LETTERS = 4
_STRETCHES = (0.9, 1.0, 1.1)
_MIN_SPOT_FIT = 0.67
_WEIGHTS = (1, 4)
"""Strokes of drawn words, pixels of a type of about 26: markers are thin or fat more often than letters."""
_SPOT_STEP_PIXELS = 2
_PITCH = 0.8
"""Usual distance of letters over the height of a capital."""
_EVEN = 0.2
"""How far, relative to it, a letter's height may be from a capital's."""


def is_marker(strokes: _Grey, boxes: _Boxes) -> bool:
    """Return whether a row holds words of ``WORDS`` and nothing else.

    Args:
        strokes: Contrast of the row's ink, uint8 ``[H, W]``; the row cut out.
        boxes: ``[N, 4]`` x, y, width, height of its letters in that cut.
    """
    boxes = boxes[np.argsort(boxes[:, 0])]
    if len(boxes) > _MAX_LETTERS:
        return False
    cuts = _cuts(boxes)
    return len(cuts) <= _MAX_CUTS and _reads(strokes, boxes, cuts, _MAX_WORDS)


def count_unread(strokes: _Grey, boxes: _Boxes) -> int:
    """Return how many letters of a row lie outside words of ``WORDS`` that its picture shows.

    Reads words of four letters and more wherever they stand in the row, so that a shape beside them, a broken letter
    or one that touches another does not hide them.

    Args:
        strokes: Contrast of the row's ink, uint8 ``[H, W]``; the row cut out.
        boxes: ``[N, 4]`` x, y, width, height of its letters in that cut.
    """
    capital = float(np.percentile(boxes[:, 3], 60))
    even = boxes[np.abs(boxes[:, 3] - capital) <= _EVEN * capital]
    if len(even) < _MIN_SPOTTED_LETTERS or len(boxes) > _MAX_LETTERS:
        return len(boxes)
    top, bottom = int(np.median(even[:, 1])), int(np.median(even[:, 1] + even[:, 3]))
    scale = _SIDE / (bottom - top)
    line = cv2.resize(strokes[top:bottom], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    line = cv2.resize(line, (line.shape[1], _SIDE))
    unread = boxes[boxes[:, 3] >= capital / 2]
    for left, right in _spotted(np.pad(_soft(line), ((0, 0), (4, 4)))):
        middles = (unread[:, 0] + unread[:, 2] / 2) * scale + 4
        unread = unread[(middles < left) | (middles > right)]
    # letters that touch are one shape
    return int(np.maximum(1, np.rint(unread[:, 2] / (_PITCH * capital))).sum())


def _spotted(line: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Return left and right end of words in the picture of a row, the surest first, none over another."""
    found: list[tuple[float, int, int]] = []
    for width, drawn in _stretched_words().items():
        if width <= line.shape[1]:
            windows = np.lib.stride_tricks.sliding_window_view(line, width, axis=1)[:, ::_SPOT_STEP_PIXELS]
            seen = windows.transpose(1, 0, 2).reshape(-1, _SIDE * width)
            seen = seen - seen.mean(axis=1, keepdims=True)
            seen = seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6)
            fits = (seen @ drawn.T).max(axis=1)
            places = np.flatnonzero(fits >= _MIN_SPOT_FIT).tolist()
            found += [(fits[at], at * _SPOT_STEP_PIXELS, at * _SPOT_STEP_PIXELS + width) for at in places]
    words: list[tuple[int, int]] = []
    for _, left, right in sorted(found, reverse=True):
        if all(right <= other[0] + 2 or left >= other[1] - 2 for other in words):
            words.append((left, right))
    return words


def _cuts(boxes: _Boxes) -> list[int]:
    """Return where words may begin and end: at the ends of a row, and at gaps wider than between most letters."""
    right = np.maximum.accumulate(boxes[:, 0] + boxes[:, 2])
    gaps = (boxes[1:, 0] - right[:-1]) / float(np.percentile(boxes[:, 3], 75))
    widest = max(_WORD_GAP, 1.4 * float(np.median(gaps)) + 0.05) if len(gaps) else _WORD_GAP
    return [0, *(np.flatnonzero(gaps > widest) + 1).tolist(), len(boxes)]


def _reads(strokes: _Grey, boxes: _Boxes, cuts: list[int], words_left: int) -> bool:
    """Return whether the letters between the first and the last cut are words, at most so many."""
    if len(cuts) == 1:
        return True
    if words_left == 0:
        return False
    for place in range(len(cuts) - 1, 0, -1):
        word = boxes[cuts[0] : cuts[place]]
        is_word = _spells_word(strokes, word) or _word_fit(strokes, word) >= _MIN_WORD_FIT
        if is_word and _reads(strokes, boxes, cuts[place:], words_left - 1):
            return True
    return False


def _spells_word(strokes: _Grey, boxes: _Boxes) -> bool:
    """Return whether each letter looks like that of one word, and like no other letter or digit much more."""
    words = [word for word in WORDS if len(word) == len(boxes)]
    if not words or (boxes[:, 2] > _WIDEST_LETTER * boxes[:, 3]).any():
        return False
    seen = np.stack([_vector(strokes[y : y + h, x : x + w]) for x, y, w, h in boxes.tolist()])
    letters, drawn = _letters()
    fit = seen @ drawn.T
    best_of = {letter: fit[:, letters == letter].max(axis=1) for letter in set("".join(words))}
    best = fit.max(axis=1)
    for word in words:
        fits = np.array([best_of[letter][place] for place, letter in enumerate(word)])
        if fits.mean() >= _MIN_LETTER_FIT and (best - fits).max() <= _MAX_LETTER_DOUBT:
            return True
    return False


def _word_fit(strokes: _Grey, boxes: _Boxes) -> float:
    """Return how well the picture of a whole word fits the best drawn word, -1..1; letters may touch or be broken."""
    if len(boxes) < 2 and boxes[0, 2] < _WIDEST_LETTER * boxes[0, 3]:
        return -1.0
    x1, y1 = boxes[:, :2].min(axis=0)
    x2, y2 = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    seen = strokes[y1:y2, x1:x2]
    best = -1.0
    for width, drawn in _words().items():
        wider = (x2 - x1) / (y2 - y1) / (width / _SIDE)
        if 1 / _MAX_WIDER <= wider <= _MAX_WIDER:
            resized = cv2.resize(seen, (width, _SIDE), interpolation=cv2.INTER_AREA)
            best = max(best, float((drawn @ _normalised(_soft(resized)).ravel()).max()))
    return best


@cache
def _letters() -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Return letter (upper case) and vector of each drawn letter and digit."""
    names, vectors = [], []
    for letter in string.ascii_uppercase + string.digits:
        for text in sorted({letter, letter.lower()}):
            for mask in _draw(text):
                names.append(letter)
                vectors.append(_vector(mask))
    return np.array(names), np.stack(vectors)


@cache
def _words() -> dict[int, NDArray[np.float32]]:
    """Return pictures of height 16 of every word of three letters and more in every face, by width, normalised."""
    pictures: dict[int, list[NDArray[np.float32]]] = {}
    for word in (word for word in WORDS if len(word) > 2):
        for text in sorted({word, word.title(), word.lower()}):
            for mask in _draw(text):
                width = 2 * max(1, round(_SIDE * mask.shape[1] / mask.shape[0] / 2))
                small = cv2.resize(mask, (width, _SIDE), interpolation=cv2.INTER_AREA)
                pictures.setdefault(width, []).append(_normalised(_soft(small)).ravel())
    return {width: np.stack(drawn) for width, drawn in pictures.items()}


@cache
def _stretched_words() -> dict[int, NDArray[np.float32]]:
    """Return the same of words long enough to be spotted, in capitals, narrower and wider, too."""
    pictures: dict[int, list[NDArray[np.float32]]] = {}
    for word in (word for word in WORDS if len(word) >= _MIN_SPOTTED_LETTERS):
        for mask in (drawn for weight in _WEIGHTS for drawn in _draw(word, weight)):
            for stretch in _STRETCHES:
                width = 4 * max(1, round(_SIDE * stretch * mask.shape[1] / mask.shape[0] / 4))
                small = cv2.resize(mask, (width, _SIDE), interpolation=cv2.INTER_AREA)
                pictures.setdefault(width, []).append(_normalised(_soft(small)).ravel())
    return {width: np.stack(drawn) for width, drawn in pictures.items()}


def _draw(text: str, weight: int = 2) -> list[_Grey]:
    """Return a text in every type face, cut to its ink."""
    drawn = []
    for face in _FACES:
        canvas = np.zeros((96, 48 * len(text) + 40), np.uint8)
        cv2.putText(canvas, text, (10, 60), face, 1.2, 255, weight, cv2.LINE_AA)
        drawn.append(canvas)
    picture = Image.new("L", (48 * len(text) + 40, 96))
    ImageDraw.Draw(picture).text((10, 10), text, font=ImageFont.load_default(40), fill=255)
    drawn.append(np.asarray(picture))
    return [cut_to_ink(canvas) for canvas in drawn]


def cut_to_ink(canvas: _Grey) -> _Grey:
    """Return the part of a canvas that holds anything but 0."""
    rows, columns = np.flatnonzero(canvas.any(axis=1)), np.flatnonzero(canvas.any(axis=0))
    return canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _soft(picture: _Grey) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _SOFTENING_PIXELS), dtype=np.float32)


def _vector(letter: _Grey) -> NDArray[np.float32]:
    """Return a letter on a square, softened; its width counts by its root, since type faces differ most in width."""
    wide = min(_SIDE, max(2, round(_SIDE * float(np.sqrt(letter.shape[1] / letter.shape[0])))))
    square = np.zeros((_SIDE + 4, _SIDE + 4), np.float32)
    left = (_SIDE + 4 - wide) // 2
    square[2:-2, left : left + wide] = cv2.resize(letter, (wide, _SIDE), interpolation=cv2.INTER_AREA)
    return _normalised(cv2.GaussianBlur(square, (0, 0), _SOFTENING_PIXELS)).ravel()


def _normalised(picture: NDArray[np.generic]) -> NDArray[np.float32]:
    centred = picture - picture.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), dtype=np.float32)
