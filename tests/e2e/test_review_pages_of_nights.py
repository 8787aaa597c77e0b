"""The review page of nights of every kind in a real browser: remarks, many studies, none, text that is hostile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crrg.exports.documents import NO_IMPRESSION
from tests.support.review_browser import drafted, wait_until, write_page

pytestmark = pytest.mark.e2e


def test_remarks_on_the_night_stand_above_everything(browser, tmp_path):
    opened = browser.new_page()
    address = write_page(
        tmp_path / "review", [drafted("study-x", "image-x", 10)], 0, ("This night differs: film/view.",)
    )
    opened.goto(address.as_uri())
    assert opened.locator(".remarks").inner_text() == "This night differs: film/view."
    assert (address.parent / "worklist.csv").read_text().startswith('"id","status"')
    assert opened.get_by_role("link", name="whole list as CSV").get_attribute("href") == "worklist.csv"
    opened.close()


def test_a_draft_shows_the_flags_that_the_list_counts_and_which_film_has_them(browser, tmp_path):
    one, other = drafted("study-a", "image-a1", 30), drafted("study-a", "image-a2", 230)
    other = replace(other, bundle_id="a" * 32, film_flags=("paediatric", "view_unknown"))
    alone = replace(drafted("study-b", "image-b", 30), film_flags=("view_unknown",))
    opened = browser.new_page()
    opened.goto(write_page(tmp_path / "review", [one, other, alone]).as_uri())
    flags = opened.locator(".draft-pane .flags li")
    shown = [
        "paediatric · film 2", "text without label: Cardiomegaly · film 2", "mixed bundles · the study",
        "view unknown · film 2",
    ]  # fmt: skip
    assert flags.all_inner_texts() == shown
    assert "3 flags" in opened.locator(".row", has_text="study-a").inner_text()
    assert "Flags of text and label ask the film alone" in opened.locator(".draft-pane").inner_text()
    opened.keyboard.press("f")
    assert flags.all_inner_texts() == shown
    opened.locator(".row", has_text="study-b").click()
    assert flags.all_inner_texts() == ["view unknown"]
    opened.close()


# scripts run before the document counts as loaded: list, film and draft are drawn then
PAINTED_MS = (
    "Math.max(performance.getEntriesByName('first-contentful-paint')[0].startTime,"
    " performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd)"
)


def painted(opened):
    """Time of a page's first paint, ms; the browser tells of a paint some frames after the page has loaded."""
    wait_until(opened, "performance.getEntriesByName('first-contentful-paint').length > 0")
    return opened.evaluate(PAINTED_MS)


def measured_page(browser, folder, num_studies):
    """Open a page of many studies; return it with the times of its first paint and of 50 steps through it, ms.

    The steps are taken to and fro: another process can take the processor once, but hardly each time.
    """
    films = [drafted(f"study-{number:04d}", f"image-{number:04d}", number % 251) for number in range(num_studies)]
    address = write_page(folder, films).as_uri()
    opened = browser.new_page()
    opened.goto("about:blank")
    opened.goto(address)
    painted_ms = painted(opened)
    took_ms = opened.evaluate(
        "Math.min(...[1, -1, 1, -1].map(way => { const t = performance.now();"
        " for (let i = 0; i < 50; i++) worklist.step(way); return performance.now() - t; }))"
    )
    return opened, painted_ms, took_ms


def test_thousand_studies_stay_quick(browser, tmp_path):
    few, few_painted_ms, few_took_ms = measured_page(browser, tmp_path / "few", 60)
    many, many_painted_ms, many_took_ms = measured_page(browser, tmp_path / "many", 1000)
    none, none_painted_ms, _ = measured_page(browser, tmp_path / "none", 0)
    none.close()
    for _ in range(3):  # another process can take the processor for a second, but hardly four times
        if many_painted_ms - none_painted_ms >= 2000:
            many.reload()
            many_painted_ms = painted(many)
    assert many_painted_ms - none_painted_ms < 2000
    assert many_painted_ms < 17 * few_painted_ms, "a page of 1,000 studies may not cost more than as many small pages"
    assert many_took_ms < 8 * few_took_ms, "a step costs the same in a long list, up to noise"
    assert many.locator(".row").count() < 60
    many.keyboard.press("End")
    assert many.locator(".row[aria-selected=true] .row-id").inner_text() == "object-1"
    few.close()
    many.close()


def test_text_of_a_draft_is_never_markup(browser, tmp_path):

    film = drafted("study-x", "image-x", 10)
    evil = "</script><img src=x onerror=window.hacked=1><b>bold</b>"
    film = replace(film, draft=replace(film.draft, findings=evil, flags=(evil,)))
    opened = browser.new_page()
    opened.goto(write_page(tmp_path / "review", [film]).as_uri())
    assert opened.locator(".findings").inner_text() == evil
    assert opened.locator(".findings b").count() == 0
    assert opened.evaluate("window.hacked") is None
    opened.close()


def test_an_empty_impression_is_told_in_the_words_of_the_report(browser, tmp_path):
    film = drafted("study-x", "image-x", 10)
    opened = browser.new_page()
    opened.goto(write_page(tmp_path / "review", [replace(film, draft=replace(film.draft, impression=""))]).as_uri())
    assert opened.locator(".impression").inner_text() == NO_IMPRESSION
    opened.close()


def test_picture_that_is_missing_is_said(browser, tmp_path):
    address = write_page(tmp_path / "review", [drafted("study-y", "image-y", 10)])
    (address.parent / "films" / "image-y.png").unlink()
    opened = browser.new_page()
    opened.goto(address.as_uri())
    opened.wait_for_selector(".missing")
    assert opened.locator(".missing").is_visible()
    opened.close()


@pytest.mark.parametrize(("num_refused", "words"), [(0, "No entry under this filter"), (1, "VIEW.LATERAL")])
def test_night_without_drafts_is_a_page_too(browser, tmp_path, num_refused, words):
    opened = browser.new_page()
    troubles: list[str] = []
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.goto(write_page(tmp_path / "review", [], num_refused).as_uri())
    assert words in opened.locator("#draft-pane").inner_text()
    for key in ("j", "k", "n", "f", "b", "i", "2", "1"):
        opened.keyboard.press(key)
    assert troubles == []
    opened.close()
