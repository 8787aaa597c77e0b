"""Shards of a night are read ahead, and nothing that was opened stays open."""

from __future__ import annotations

import threading

import pytest

from crrg.operations.night_feed import ShardFeed
from crrg.operations.night_reading import ReadAhead
from crrg.operations.night_shard import run_shard
from crrg.operations.nightly import plan_night, release_night
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, fill_inbox, night_config


@pytest.fixture
def planned(tmp_path):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 6)
    plan = plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    yield plan, root
    release_night(plan, root)


def reading_threads() -> int:
    return sum(thread.name == "reading-ahead" for thread in threading.enumerate())


def test_the_next_shard_is_read_while_one_is_finished(planned):
    plan, root = planned
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter(), feed=feed)
        assert reading_threads() == 1
        opened = feed.open(plan.shards[1])
        assert opened.index == 1
        assert len(list(opened.readings)) == len(opened.inputs)
    assert reading_threads() == 0


def test_what_was_opened_ahead_is_closed(planned):
    plan, root = planned
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        feed.open_after(0)
        assert reading_threads() == 1
    assert reading_threads() == 0


def test_another_shard_than_the_one_ahead_is_read_all_the_same(planned):
    plan, root = planned
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        feed.open_after(0)
        opened = feed.open(plan.shards[0])
        assert opened.index == 0
        assert [each.outcome.key_hmac for each in opened.readings] == [each.key_hmac for each in opened.inputs]
    assert reading_threads() == 0


def test_a_finished_shard_is_not_read_again(planned):
    plan, root = planned
    run_shard(plan, plan.shards[1], root, PSEUDONYMS, StandInDrafter())
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        feed.open_after(0)
        feed.open_after(len(plan.shards) - 1)
        assert reading_threads() == 0


def test_errors_of_the_thread_surface_and_end_it():
    def failing():
        yield 1
        raise ValueError("ours")

    items = ReadAhead(failing(), 2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="ours"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)
    assert reading_threads() == 0
