"""What the tests of archives share: drawn pictures, tables, and one item built into a row of a dataset."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from crrg.data.archives.sources import Source, SourceItem
from crrg.data.dataset.split import SplitShares
from crrg.data.film import read_film
from crrg.data.pairing import PairBuilder, PairingRules
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.labels import LabelValues
from crrg.domain.study import Pair
from tests.support.keys import KEY

PSEUDONYMS = Pseudonyms(KEY.encode())
IMAGE_SIZE = 64


def drawn_pixels(shade: int = 0, height: int = 40, width: int = 50) -> np.ndarray:
    """Grey values rising from left to right, uint8; another shade is another film."""
    return np.tile(np.linspace(shade, 200 + shade, width).astype(np.uint8), (height, 1))


def write_picture(path: Path, shade: int = 0, height: int = 40, width: int = 50) -> None:
    """Write a drawn film in the format of the name's suffix, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn_pixels(shade, height, width)).save(path, quality=95)


def jpeg_bytes(shade: int = 0, height: int = 40, width: int = 50) -> bytes:
    """Return a drawn film as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(drawn_pixels(shade, height, width)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_table(path: Path, header: str, *rows: str) -> None:
    """Write a CSV table of ready lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a CSV table whose cells may need quotes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def items_by_name(source: Source) -> dict[str, SourceItem]:
    """Return all items of an archive; an item that comes twice is a fault."""
    items = list(source.items())
    by_name = {item.name: item for item in items}
    assert len(by_name) == len(items)
    return by_name


def build_pair(source: Source, item: SourceItem) -> Pair:
    """Decode an item's film and make its row; a text is labelled with nothing."""
    assert item.problem is None, item.problem
    data = source.storage.get(item.film.key) if item.film else b""
    decoded = read_film(data, IMAGE_SIZE) if item.film else None
    digest = hashlib.sha256(data or item.report.text.encode()).digest()
    rules = PairingRules(PSEUDONYMS, _no_labels, seed=0, shares=SplitShares(), use_published_split=True)
    return PairBuilder(rules).build(item, source.kind.value, source.site, decoded, digest)


def _no_labels(_text: str) -> LabelValues:
    return {}
