"""A review page on disk and a real browser to open it in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from crrg.domain.labels import LABELS
from crrg.domain.study import Film, ViewPosition
from crrg.exports.documents import DraftingBundle, study_documents
from crrg.exports.page_pictures import evidence_name, find_pictures, picture_name
from crrg.exports.parquet import DraftedFilm, regions_table, reports_table
from crrg.exports.pictures import evidence_png, film_png
from crrg.exports.review import NightFacts, review_files
from crrg.exports.work_list import RefusedObject
from tests.support.drawn_night import draft_of, evidence_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EXPLAINED = frozenset({"image-b"})
BUNDLES = {
    "b" * 32: DraftingBundle("7", dict.fromkeys(LABELS, 0.5), 0.5),
    "a" * 32: DraftingBundle("6", dict.fromkeys(LABELS, 0.25), 0.1),
}
CHROMIUM = os.environ.get("CRRG_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def run_browser(*flags: str) -> Iterator[Browser]:
    """Yield a headless Chromium, with more flags than usual; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}; `make system-deps` names what to install")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield started
        started.close()


def drafted(study: str, instance: str, value: int, view: ViewPosition = ViewPosition.PA) -> DraftedFilm:
    film = Film(np.full((40, 50), value, np.uint8), 500, 400, view, None, False, b"")
    flags = ("paediatric",) if value > 200 else ()
    return DraftedFilm(study, instance, b"\1" * 32, view, 500, 400, flags, draft_of(film), "b" * 32)


def write_page(folder: Path, films: list[DraftedFilm], num_refused: int = 2, remarks: tuple[str, ...] = ()) -> Path:
    regions: dict[str, list[Any]] = {}
    for row in regions_table(films).to_pylist():
        regions.setdefault(row["instance_id"], []).append(row)
    primary: dict[str, str] = {}
    for film in films:
        primary.setdefault(film.study_id, film.instance_id)
    shown = study_documents(
        reports_table(films, frozenset(primary.values())).to_pylist(),
        regions,
        {film.instance_id: (500, 400) for film in films},
        BUNDLES,
    )
    refused = [
        RefusedObject(f"object-{number}", "VIEW.LATERAL", "a lateral film", f"lateral-{number}" if number else "")
        for number in range(num_refused)
    ]
    facts = NightFacts("2026-11-20", "b" * 32, "7", 3, dict.fromkeys(LABELS, 0.5), remarks)
    (folder / "films").mkdir(parents=True)
    for name, data in review_files(facts, shown, refused, find_pictures(map(evidence_name, EXPLAINED))):
        (folder / name).write_bytes(data)
    (folder / evidence_name("image-b")).parent.mkdir()
    (folder / evidence_name("image-b")).write_bytes(evidence_png([evidence_of(4)]))
    for film in films[:20]:
        (folder / picture_name(film.instance_id)).write_bytes(film_png(np.full((40, 50), 90, np.uint8)))
    return folder / "index.html"


def wait_until(opened: Page, condition: str) -> None:
    """Ask a page until something holds; from outside, since its policy lets nothing ask from within."""
    deadline_s = time.monotonic() + 30
    while not opened.evaluate(condition):
        assert time.monotonic() < deadline_s, condition
        time.sleep(0.02)
