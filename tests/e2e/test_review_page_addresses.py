"""How the review page names a study in its address, and finds one by it, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.review_browser import drafted, wait_until, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e

SHOWN = """() => [
    document.querySelector(".row[aria-selected=true] .row-id").textContent,
    document.querySelector(".draft-pane h2 code").textContent,
    document.querySelector("#film-stage image").getAttribute("href").replace(/films.image(.*).png/, "study$1"),
]"""
REFUSE_ADDRESSES = """() => {
    window.numAddresses = 0;
    history.replaceState = () => { window.numAddresses += 1; throw new DOMException("too often", "SecurityError"); };
}"""


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    films = [drafted(f"study-{number:02d}", f"image-{number:02d}", 60 + number) for number in range(40)]
    films.append(drafted("study-39", "other-39", 60))
    opened = browser.new_page(viewport={"width": 1400, "height": 850})
    troubles: list[str] = []
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.goto(write_page(tmp_path / "review", films).as_uri())
    yield opened
    opened.close()
    assert troubles == []


def test_film_and_draft_belong_together_where_the_browser_refuses_the_address(page):
    wait_until(page, "location.hash === '#study-00'")
    page.evaluate(REFUSE_ADDRESSES)
    for number in range(1, 31):
        page.keyboard.press("j")
        assert page.evaluate(SHOWN) == [f"study-{number:02d}"] * 3
    wait_until(page, "window.numAddresses > 0")
    page.keyboard.press("j")
    assert page.evaluate(SHOWN) == ["study-31"] * 3


def test_a_key_held_down_sets_the_address_once(page):
    page.evaluate("location.hash = '#study-03'")
    wait_until(page, "document.querySelector('.draft-pane h2 code').textContent === 'study-03'")
    num_set = page.evaluate(
        """() => {
            const real = history.replaceState.bind(history);
            window.numAddresses = 0;
            history.replaceState = (...given) => { window.numAddresses += 1; real(...given); };
            for (let i = 0; i < 30; i++) worklist.step(1);
            return window.numAddresses;
        }"""
    )
    assert num_set == 0
    wait_until(page, "location.hash === '#study-33'")
    assert page.evaluate("window.numAddresses") == 1


def test_a_film_is_found_by_its_own_id_too(page):
    for words, study in (("other-39", "study-39"), ("image-07", "study-07"), ("lateral-1", "object-1")):
        page.locator("#find").fill(words)
        assert page.locator(".row .row-id").all_inner_texts() == [study]
    page.locator("#find").fill("")
    address = page.url.split("#")[0]
    for film, study, picture in (("other-39", "study-39", "films/other-39.png"), ("lateral-1", "object-1", None)):
        page.goto("about:blank")
        page.goto(f"{address}#{film}")
        assert page.locator(".draft-pane h2 code").inner_text() == study
        if picture:
            assert page.locator("#film-stage image").get_attribute("href") == picture
    page.evaluate("location.hash = '#image-05'")
    wait_until(page, "document.querySelector('.draft-pane h2 code').textContent === 'study-05'")


def test_a_link_to_a_film_stays_one(page):
    address = page.url.split("#")[0]
    page.goto("about:blank")
    page.goto(f"{address}#other-39")
    # beyond the moment at which the page writes its address
    page.wait_for_timeout(600)
    assert page.evaluate("location.hash") == "#other-39"
    page.keyboard.press("k")
    wait_until(page, "location.hash === '#study-38'")


def test_no_entry_has_the_address_of_none(page):
    wait_until(page, "location.hash === '#study-00'")
    page.keyboard.press("j")
    page.locator("#find").fill("nothing is named so")
    page.wait_for_timeout(600)
    assert page.locator(".draft-pane").inner_text() == "No entry under this filter."
    assert page.evaluate("location.hash") == "#study-00"


def test_no_id_is_not_that_of_an_object_whose_film_is_unknown(page):
    assert page.evaluate("worklist.items.filter((item) => item.refused).map((item) => item.refused.instanceId)") == [
        "", "lateral-1"
    ]  # fmt: skip
    assert page.evaluate("worklist.chooseId('')") is False
