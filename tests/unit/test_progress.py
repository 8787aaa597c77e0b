from __future__ import annotations

import logging

import pytest

from crrg.progress import Progress, count_progress, listening, span


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lines_of(caplog: pytest.LogCaptureFixture, *, num_items: int, item_s: float, start: int = 0) -> list[str]:
    caplog.set_level(logging.INFO, "crrg.progress")
    clock = Clock()
    say = count_progress("detector", "steps", start=start, clock=clock)
    for number in range(start + 1, num_items + 1):
        clock.now_s += item_s
        say(number, num_items, "loss 0.5")
    return [record.getMessage() for record in caplog.records]


def test_a_short_step_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(caplog, num_items=40, item_s=0.1) == []


def test_a_step_of_a_minute_says_a_line_every_ten_percent_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    lines = lines_of(caplog, num_items=100, item_s=0.6)
    assert len(lines) == 10
    assert lines[0] == "detector: 10 of 100 steps, loss 0.5, about 54 s left"
    assert lines[-1] == "detector: 100 of 100 steps, loss 0.5"


def test_lines_are_five_seconds_apart_where_ten_percent_take_less(caplog: pytest.LogCaptureFixture) -> None:
    # 20 s in all: due at 5, 10 and 15 s; the end is said as well
    assert len(lines_of(caplog, num_items=20, item_s=1.0)) == 4


def test_a_step_of_hours_says_two_lines_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    assert len(lines_of(caplog, num_items=7200, item_s=1.0)) == 240


def test_the_time_left_counts_from_where_a_stopped_run_went_on(caplog: pytest.LogCaptureFixture) -> None:
    lines = lines_of(caplog, num_items=100, item_s=6.0, start=80)
    assert lines[0] == "detector: 85 of 100 steps, loss 0.5, about 2 min left"


def test_an_unknown_total_is_said_without_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crrg.progress")
    clock = Clock()
    say = count_progress("ingest", "inputs", clock=clock)
    clock.now_s += 6
    say(12)
    assert caplog.messages == ["ingest: 12 inputs"]


def test_a_listener_hears_everything_up_to_the_end_once() -> None:
    heard: list[Progress] = []
    say = count_progress("drawing", "studies", clock=Clock())
    say(1, 2)
    with listening(heard.append):
        say(2, 2)
        say(2, 2)
    assert [(each.num_done, each.is_done) for each in heard] == [(2, True)]


def test_time_spans_are_worded() -> None:
    assert [span(seconds) for seconds in (0, 89, 90, 3600, 7500)] == ["0 s", "89 s", "2 min", "60 min", "2 h 05 min"]
