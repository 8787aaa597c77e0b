"""The review page in a real browser, from ``file://``: what a reader does with mouse, keyboard and a long list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crrg.domain.study import ViewPosition
from crrg.exports.superseded import SUPERSEDED_FILE, Replacement, superseded_script
from tests.support.review_browser import drafted, wait_until, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.e2e


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    films = [
        drafted("study-a", "image-a1", 30),
        drafted("study-a", "image-a2", 31, ViewPosition.AP),
        drafted("study-b", "image-b", 90),
        drafted("study-c", "image-c", 230),
    ]
    opened = browser.new_page(viewport={"width": 1400, "height": 850})
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else troubles.append("net"))
    opened.goto(write_page(tmp_path / "review", films).as_uri())
    yield opened
    opened.close()
    assert troubles == []


def chosen(page: Page) -> str:
    return page.locator(".row[aria-selected=true] .row-id").inner_text()


def test_shows_draft_banner_film_sentences_and_labels(page):
    assert "DRAFT — NOT REVIEWED" in page.locator(".banner").inner_text()
    assert chosen(page) == "study-a"
    assert page.locator(".draft-pane h2 .tag").inner_text() == "DRAFT"
    assert page.locator("#film-stage image").get_attribute("href") == "films/image-a1.png"
    assert page.locator(".sentence").count() == 2
    assert page.locator(".box").count() == 2
    assert page.locator(".bars tbody tr").count() == 14
    assert page.locator(".bars .tick").count() == 14
    assert "bundle bbbbbbbbbbbb" in page.locator(".models").inner_text()
    assert (
        page.evaluate(
            "new Promise(done => { const i = new Image(); i.onload = () => done(i.naturalWidth);"
            " i.src = 'films/image-a1.png'; })"
        )
        == 50
    )


def test_sentence_lights_its_box_and_a_box_its_sentence(page):
    page.locator(".sentence", has_text="The heart").hover()
    assert page.locator(".box.is-lit title").text_content() == "cardiac silhouette"
    assert page.locator("#film-caption strong").inner_text() == "cardiac silhouette"
    page.locator(".banner").hover()
    assert page.locator(".is-lit").count() == 0
    page.locator(".sentence", has_text="The lungs").focus()
    assert page.locator(".box.is-lit title").text_content() == "right lung"
    page.locator(".box").last.dispatch_event("mouseenter")
    assert page.locator(".sentence.is-lit").count() == 1


def test_a_lit_sentence_shows_what_it_rests_on(page):
    assert page.locator("#heat").count() == 0
    page.keyboard.press("j")
    assert page.locator("#heat image").count() == 0
    page.locator(".sentence", has_text="The heart").focus()
    heat = page.locator("#heat image")
    assert [heat.get_attribute(name) for name in ("href", "y", "height")] == ["evidence/image-b.png", "-24", "29"]
    film, strip = page.locator("#film-stage > svg > image").bounding_box(), heat.bounding_box()
    # through the window the heart's tile lies on the film: 24 tiles of the strip are above it
    assert strip["height"] == pytest.approx(29 * film["height"], rel=0.01)
    assert strip["y"] == pytest.approx(film["y"] - 24 * film["height"], abs=2)
    assert [strip["x"], strip["width"]] == pytest.approx([film["x"], film["width"]], abs=2)
    page.keyboard.press("h")
    assert page.locator("#heat image").count() == 0


def test_box_lies_where_the_region_is(page):
    box = page.locator(".box.is-abnormal")
    assert [float(box.get_attribute(name)) for name in ("x", "y", "width", "height")] == [50, 40, 320, 320]
    assert page.locator("#film-stage svg").get_attribute("viewBox") == "0 0 500 400"


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((2, 300, 27, 330), "above"),
        ((470, 300, 495, 330), "above"),
        ((230, 3, 270, 370), "below"),
        ((230, 3, 270, 395), "inside"),
        ((2, 0, 27, 400), "inside"),
        ((470, 12, 500, 400), "inside"),
    ],
)
def test_name_of_a_box_at_the_edge_stays_on_the_film(page, box, place):
    page.evaluate(
        """(box) => {
            const name = "left costophrenic angle";
            state.item.study.films[state.film].regions[night.regions.indexOf(name)].splice(0, 4, ...box);
            light([name]);
        }""",
        box,
    )
    film, name = page.locator("#film-stage svg").bounding_box(), page.locator("#box-name").bounding_box()
    assert page.locator("#box-name").text_content() == "left costophrenic angle"
    outline_px = 6
    assert name["x"] >= film["x"] - outline_px
    assert name["x"] + name["width"] <= film["x"] + film["width"] + outline_px
    assert name["y"] >= film["y"] - outline_px
    assert name["y"] + name["height"] <= film["y"] + film["height"] + outline_px
    baseline = float(page.locator("#box-name").get_attribute("y"))
    assert place == ("above" if baseline < box[1] else "below" if baseline > box[3] else "inside")


def test_keys_walk_the_list_and_filters_narrow_it(page):
    page.keyboard.press("j")
    assert chosen(page) == "study-b"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert chosen(page) == "object-0"
    assert "drafts are written for frontal films" in page.locator(".facts").inner_text()
    page.keyboard.press("k")
    assert chosen(page) == "study-c"
    page.keyboard.press("2")
    assert page.locator("#list-count").inner_text() == "1 entry"
    assert chosen(page) == "study-c"
    page.keyboard.press("4")
    assert page.locator(".row").count() == 2
    page.keyboard.press("5")
    unsure = int(page.locator("#filters button").nth(4).locator(".num").inner_text())
    assert page.locator(".row").count() == unsure
    page.keyboard.press("1")
    page.keyboard.press("/")
    page.keyboard.type("study-b")
    assert page.locator(".row").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


@pytest.mark.parametrize(
    ("consistency", "probability", "is_unsure"), [(0.75, 0.1, 0), (0.4, 0.1, 1), (0.75, 0.49, 1), (0.75, 0.53, 0)]
)
def test_drafts_that_could_be_otherwise_are_listed(page, consistency, probability, is_unsure):
    found = page.evaluate(
        """([consistency, probability]) => {
            const study = { ...night.studies[0], consistency,
                            probabilities: night.labels.map((_, i) => i === 1 ? probability : 0.02) };
            return listItems({ ...night, studies: [study], quarantined: [] }).filter((item) => item.isUnsure).length;
        }""",
        [consistency, probability],
    )
    assert found == is_unsure


def test_other_film_of_the_study_and_no_boxes(page):
    page.keyboard.press("f")
    assert page.locator("#film-stage image").get_attribute("href") == "films/image-a2.png"
    page.keyboard.press("b")
    assert page.locator(".box").count() == 29
    page.keyboard.press("b")
    assert page.locator(".box").count() == 0


def test_roles_and_names_for_readers_who_do_not_see(page):
    assert page.get_by_role("listbox", name="Studies").is_visible()
    assert page.locator("#list").get_by_role("option", selected=True).count() == 1
    assert page.get_by_role("main").is_visible()
    assert page.get_by_role("button", name="Flagged 1").get_attribute("aria-pressed") == "false"
    assert page.locator("#film-stage svg").get_attribute("aria-label").startswith("Chest film, PA")
    assert page.locator("#list").get_by_role("option", name="study-c PA 2 flags").count() == 1
    active = page.locator("#list").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"


def test_a_replaced_draft_says_so_and_by_which_run(page, tmp_path):
    assert not page.locator("#replaced-note").is_visible()
    assert page.locator(".draft-pane .replaced").count() == 0
    newer = {
        "image-a2": Replacement("2026-11-21", "0123", "results/date=2026-11-21/run=0123/review/index.html"),
        "image-c": Replacement("2026-11-22", "4567", ""),
    }
    (tmp_path / "review" / SUPERSEDED_FILE).write_bytes(superseded_script(newer, "worklist.01ab.csv"))
    offered = page.get_by_role("link", name="whole list as CSV")
    assert offered.get_attribute("href") == "worklist.csv"
    page.reload()
    assert offered.get_attribute("href") == "worklist.01ab.csv"
    assert page.locator("#replaced-note").inner_text().startswith("2 of the 3 drafts of this night were replaced")
    said = page.get_by_label("Draft").get_by_role("note")
    assert said.inner_text().startswith(
        "REPLACED. A newer draft of this study was written in the night of 2026-11-21, run 0123."
    )
    link = said.get_by_role("link", name="Open the newer draft").get_attribute("href")
    assert link == "../../../../results/date=2026-11-21/run=0123/review/index.html#study-a"
    assert "replaced" in page.locator("#list").get_by_role("option", selected=True).inner_text()
    assert [text for text, ratio in page.evaluate(CONTRASTS) if ratio < 4.5] == []
    page.keyboard.press("j")
    assert page.locator(".draft-pane .replaced").count() == 0
    page.keyboard.press("j")
    assert said.inner_text().endswith("2026-11-22, run 4567.")
    assert said.get_by_role("link").count() == 0
    page.keyboard.press("/")
    page.keyboard.type("replaced")
    assert page.locator(".row").count() == 2


def test_link_opens_a_study(page):
    page.evaluate("location.hash = '#study-c'")
    wait_until(page, "document.querySelector('.draft-pane h2 code').textContent === 'study-c'")
    assert page.locator("#list").get_by_role("option", selected=True).count() == 1


def test_a_link_that_is_no_text_opens_the_page_all_the_same(page):
    address = page.url.split("#")[0]
    page.goto("about:blank")
    page.goto(f"{address}#%E0")
    assert page.locator(".row").count() > 0


CONTRASTS = """() => {
    const channel = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
    const ground = (node) => {
        for (let each = node; each; each = each.parentElement) {
            const color = numbers(getComputedStyle(each).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const node of document.querySelectorAll("body *")) {
        const text = [...node.childNodes].map((each) => each.nodeType === 3 ? each.data.trim() : "").join("");
        if (!text || !node.checkVisibility() || node.closest("svg, noscript, script")) continue;
        const [a, b] = [light(numbers(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
        found.push([text.slice(0, 30), (a + 0.05) / (b + 0.05)]);
    }
    return found;
}"""


def test_every_text_can_be_read_in_a_dark_room(page):
    for key in ("1", "4"):
        page.keyboard.press(key)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 30
        assert [text for text, ratio in contrasts if ratio < 4.5] == [], "WCAG 2.1 AA"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(11, 13, 15)"


def test_thresholds_stand_as_numbers_and_rows_of_regions_are_reached_by_key(page):
    assert page.locator(".bars .threshold").first.inner_text() == "≥ 0.50"
    page.locator("summary").click()
    page.locator(".banner").hover()
    row = page.locator(".regions tbody tr", has_text="cardiac silhouette")
    row.focus()
    assert page.locator(".box.is-lit title").text_content() == "cardiac silhouette"


def test_a_study_that_an_older_bundle_drafted_shows_its_thresholds_and_its_name(browser, tmp_path):
    films = [drafted("study-a", "image-a1", 30), replace(drafted("study-b", "image-b", 90), bundle_id="a" * 32)]
    opened = browser.new_page()
    opened.goto(write_page(tmp_path / "review", films).as_uri())
    for study, threshold, version, abnormal_from, num_abnormal in (
        ("study-a", "0.50", "model 7 · bundle b", "0.50", 1),
        ("study-b", "0.25", "model 6 · bundle a", "0.10", 2),
    ):
        opened.locator(".row", has_text=study).click()
        assert opened.locator(".bars .threshold").first.inner_text() == f"≥ {threshold}"
        assert version in opened.locator(".draft-pane").inner_text()
        assert opened.locator(".box.is-abnormal").count() == num_abnormal
        assert f"Abnormal, from {abnormal_from}" in opened.locator(".regions thead").text_content()
    opened.close()


def test_tab_goes_from_filters_over_the_list_to_the_sentences(page):
    reached = []
    page.keyboard.press("b")
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.getAttribute('class') || 'button'")
        )
    places = [
        next(i for i, each in enumerate(reached) if name in each) for name in ("order", "find", "list", "sentence")
    ]
    assert places == sorted(places)
    # boxes belong to the picture, which readers are told as a whole; their sentences and table rows are reached instead
    assert not {"box", "rect"} & {word for each in reached for word in str(each).split()}


@pytest.mark.parametrize("width", [1000, 1440])
def test_nothing_of_the_filters_is_cut_off(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    pane = page.locator(".list-pane").bounding_box()
    for button in page.locator("#filters button").all():
        box, number = button.bounding_box(), button.locator(".num").bounding_box()
        assert box["x"] + box["width"] <= pane["x"] + pane["width"]
        assert number["x"] + number["width"] <= box["x"] + box["width"]
    assert page.locator(".models").is_visible()


def test_what_is_printed_is_the_draft_without_the_list(page):
    page.emulate_media(media="print")
    assert page.locator(".banner").is_visible()
    assert page.locator(".findings").is_visible()
    assert not page.locator(".list-pane").is_visible()


@pytest.mark.parametrize(
    ("phrase", "place", "is_underlined"),
    [
        ("The heart is tortuous.", 24, True),  # of a region that reads abnormal
        ("No pneumothorax.", 24, False),
        ("No acute osseous abnormality.", 24, False),
        ("There is a small right pleural effusion.", 0, True),  # of one that does not
        ("The lungs are clear.", 0, False),
    ],
)
def test_a_sentence_is_underlined_for_what_it_states_and_not_where_it_denies(
    browser, tmp_path, phrase, place, is_underlined
):
    film = drafted("study-a", "image-a1", 30)
    regions = list(film.draft.regions)
    regions[place] = replace(regions[place], phrase=phrase)
    draft = replace(film.draft, findings=phrase, regions=tuple(regions))
    opened = browser.new_page()
    opened.goto(write_page(tmp_path / "review", [replace(film, draft=draft)]).as_uri())
    assert opened.locator(".sentence").inner_text() == phrase
    assert opened.locator(".sentence.is-abnormal").count() == int(is_underlined)
    opened.close()


def test_sentences_of_longer_phrases_and_reworded_denials_light_their_boxes_too(browser, tmp_path):
    film = drafted("study-a", "image-a1", 30)
    effusion, clear = "There is a small left pleural effusion.", "The lungs are clear."
    said = {
        "right costophrenic angle": "No pleural effusion.",
        "left lung": f"{clear} {effusion}",
        "left costophrenic angle": f"{effusion} {clear}",
    }
    regions = tuple(replace(region, phrase=said.get(region.region)) for region in film.draft.regions)
    draft = replace(film.draft, findings=f"No right pleural effusion. {clear} {effusion}", regions=regions)
    opened = browser.new_page()
    opened.goto(write_page(tmp_path / "review", [replace(film, draft=draft)]).as_uri())
    assert opened.locator(".findings").inner_text() == draft.findings
    left = ["left costophrenic angle", "left lung"]
    lit = {"No right pleural effusion.": ["right costophrenic angle"], clear: left, effusion: left}
    for text, names in lit.items():
        opened.locator(".sentence", has_text=text).focus()
        assert sorted(opened.locator(".box.is-lit title").all_text_contents()) == names
    assert opened.locator(".sentence.is-abnormal").all_inner_texts() == [effusion]
    opened.close()


def test_flags_of_film_against_text_say_what_they_compare(page):
    flags = page.locator(".draft-pane .flags")
    assert flags.count() == 0
    page.locator(".row", has_text="study-c").click()
    assert "text without label: Cardiomegaly" in flags.inner_text()
    assert "Flags of text and label ask the film alone" in page.locator(".draft-pane").inner_text()
    page.locator(".row", has_text="study-a").click()
    assert "Flags of text and label ask the film alone" not in page.locator(".draft-pane").inner_text()
