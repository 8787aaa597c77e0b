"""The review page where there is little room: small windows, magnified ones, long words, and sheets of paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.printed_sheets import read_sheets
from tests.support.review_browser import drafted, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from crrg.exports.parquet import DraftedFilm

pytestmark = pytest.mark.e2e

BANNER_GROUND, BANNER_TEXT = (0.2902, 0.1961, 0.0627), (1, 0.9137, 0.7804)
REMARKS = ("The films of this night are brighter than those of the training; look at more of them than usual.",) * 2
LONG_WORD = "W" * 300


def with_text(film: DraftedFilm, text: str) -> DraftedFilm:
    draft = film.draft
    regions = tuple(replace(each, phrase=text if each.phrase else None) for each in draft.regions)
    return replace(film, draft=replace(draft, findings=text, impression=text, flags=(text,), regions=regions))


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    films = [drafted(f"study-{number:02d}", f"image-{number:02d}", 60 + number) for number in range(12)]
    films[0] = with_text(films[0], "The heart is very large. " * 90)
    films[1] = with_text(films[1], LONG_WORD)
    opened = browser.new_page(viewport={"width": 1400, "height": 850})
    opened.goto(write_page(tmp_path / "review", films, remarks=REMARKS).as_uri())
    yield opened
    opened.close()


# 1400 x 850 at 200 %, a telephone, a desk's window at 400 % (WCAG 2.1, 1.4.10), and a low one
@pytest.mark.parametrize(("width", "height"), [(700, 425), (390, 800), (320, 256), (1400, 425)])
def test_a_small_or_magnified_window_keeps_list_and_draft(page, width, height):
    page.set_viewport_size({"width": width, "height": height})
    page.keyboard.press("j")
    page.keyboard.press("j")
    rows = page.locator(".row").first.bounding_box()["height"]
    for part, least in (("#list", 2 * rows), ("#film-stage svg", 100), (".impression", 20), (".bars", 100)):
        shown = page.locator(part)
        shown.scroll_into_view_if_needed()
        box = shown.bounding_box()
        assert box["height"] >= least, part
        assert box["width"] >= min(300, width - 60), part
        assert box["x"] + box["width"] <= width, part
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#list").scroll_into_view_if_needed()
    page.locator(".row", has_text="study-03").click()
    assert page.locator(".draft-pane h2 code").inner_text() == "study-03"
    assert page.locator(".banner").bounding_box()["y"] == 0, "the banner stays where the page scrolls"


def test_a_press_during_which_the_list_is_drawn_again_chooses_its_row(page):
    row = page.locator(".row", has_text="study-03").bounding_box()
    page.mouse.move(row["x"] + row["width"] / 2, row["y"] + row["height"] / 2)
    page.mouse.down()
    page.evaluate("document.getElementById('list').dispatchEvent(new Event('scroll'))")
    page.mouse.up()
    assert page.locator(".draft-pane h2 code").inner_text() == "study-03"
    assert page.locator(".row[aria-selected=true]").inner_text().startswith("study-03")


@pytest.mark.parametrize("width", [1400, 1000, 390])
def test_a_word_without_end_breaks_inside_its_pane(page, width):
    page.set_viewport_size({"width": width, "height": 850})
    page.keyboard.press("j")
    assert page.locator(".draft-pane h2 code").inner_text() == "study-01"
    page.locator("summary").click()
    pane = page.locator(".draft-pane").bounding_box()
    for part in (".impression", ".findings .sentence", ".flags li", ".regions"):
        box = page.locator(part).first.bounding_box()
        assert box["x"] + box["width"] <= pane["x"] + pane["width"], part


def test_words_in_an_empty_field_can_be_read(page):
    shown = page.evaluate("getComputedStyle(document.getElementById('find'), '::placeholder').color")
    assert shown == page.evaluate("getComputedStyle(document.querySelector('.tools label')).color")


def test_every_printed_sheet_says_draft_and_hides_nothing_behind_it(page):
    sheets = read_sheets(page.pdf(format="A4"))
    assert len(sheets) > 1
    for number, sheet in enumerate(sheets):
        banner = [each for each in sheet.rectangles if each.colour == BANNER_GROUND]
        top, bottom = min(each.top for each in banner), min(each.bottom for each in banner)
        inside = [colour for base, colour in sheet.texts if top <= base <= bottom]
        assert len(inside) > 1, number
        assert set(inside) == {BANNER_TEXT}, number
        assert len(sheet.texts) > len(inside), number
