"""Shards of a night are read ahead, and nothing that was opened stays open."""

from __future__ import annotations

import gc
import logging
import threading
import time

import pytest
from pydantic import SecretStr

from crrg.config.base import Settings
from crrg.config.fan_out import FanOut
from crrg.data.decoding import pool as decoder_pool
from crrg.data.decoding.limits import DecoderLimits
from crrg.data.decoding.process import Child
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.operations.night import feed as night_feed
from crrg.operations.night import nightly
from crrg.operations.night import steps as night_steps
from crrg.operations.night.feed import ShardFeed
from crrg.operations.night.nightly import plan_night, release_night
from crrg.operations.night.reading import ReadAhead
from crrg.operations.night.records import record_key
from crrg.operations.night.shard import run_shard
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, fill_inbox, night_config, run_test_night
from tests.support.keys import KEY


@pytest.fixture
def planned(tmp_path):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 6)
    plan = plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    yield plan, root
    release_night(plan, root)


@pytest.mark.parametrize(("task_runner", "number"), [("here", 2), ("flow", 2), ("processes", 0)])
def test_decoders_load_from_the_plan_on_where_shards_run_in_its_process(tmp_path, monkeypatch, task_runner, number):
    started: list[Child] = []

    def start(limits: DecoderLimits) -> Child:
        started.append(Child(limits))
        return started[-1]

    monkeypatch.setattr(decoder_pool, "Child", start)
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 6)
    config = night_config(inbox, num_workers=2, fan_out=FanOut(task_runner=task_runner))
    plan = plan_night(config, root, BUNDLE, PSEUDONYMS)
    assert [child.process.poll() for child in started] == [None] * number
    release_night(plan, root)
    assert all(child.process.poll() is not None for child in started)


def reading_threads() -> int:
    return sum(thread.name == "reading-ahead" for thread in threading.enumerate())


def test_the_next_shard_is_read_whole_after_one_is_finished(planned):
    plan, root = planned
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter(), feed=feed)
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


def test_of_a_shard_that_is_read_ahead_no_record_is_looked_for_again(planned, monkeypatch):
    plan, root = planned
    asked: list[str] = []
    exists = Storage.exists
    monkeypatch.setattr(Storage, "exists", lambda storage, key: asked.append(key) or exists(storage, key))
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        for shard in plan.shards:
            assert feed.has_opened(shard) == (shard.index > 0)
            run_shard(plan, shard, root, PSEUDONYMS, StandInDrafter(), feed=feed)
    assert sorted(key for key in asked if "/shards/" in key) == [record_key(plan, each.index) for each in plan.shards]


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


def test_nothing_more_is_read_while_reading_is_held():
    asked: list[int] = []

    def counting():
        for number in range(50):
            asked.append(number)
            yield number

    items = ReadAhead(counting(), 64)
    with items.held():
        time.sleep(0.05)
        num_asked = len(asked)
        time.sleep(0.05)
        assert len(asked) == num_asked
    assert list(items) == list(range(50))


def test_little_is_fetched_from_a_disk_while_reading_is_held(tmp_path, monkeypatch):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 40)
    plan = plan_night(night_config(inbox, shard_size=40), root, BUNDLE, PSEUDONYMS)
    fetched: list[str] = []
    fetch = Storage.get_unchanged

    def noted(storage, stored):
        fetched.append(stored.key)
        return fetch(storage, stored)

    monkeypatch.setattr(Storage, "get_unchanged", noted)
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    try:
        with ShardFeed(plan, root, PSEUDONYMS) as feed:
            readings = feed.open(plan.shards[0]).readings
            with readings.held():
                time.sleep(0.5)
                assert len(fetched) < 30
            assert len(list(readings)) == len(fetched) == 40
    finally:
        release_night(plan, root)


def test_what_is_held_can_be_closed():
    items = ReadAhead((number for number in range(50)), 2)
    with items.held():
        items.close()
    assert reading_threads() == 0


@pytest.mark.parametrize(("takes_all_cores", "expected"), [(True, ["draft", "open"]), (False, ["open", "draft"])])
def test_the_next_shard_waits_for_models_that_need_the_cores(planned, takes_all_cores, expected):
    plan, root = planned
    events: list[str] = []

    class Noting(StandInDrafter):
        def draft(self, films):
            events.append("draft")
            return super().draft(films)

    class NotingFeed(ShardFeed):
        def open_after(self, index):
            events.append("open")
            super().open_after(index)

    drafter = Noting()
    drafter.takes_all_cores = takes_all_cores
    with NotingFeed(plan, root, PSEUDONYMS) as feed:
        run_shard(plan, plan.shards[0], root, PSEUDONYMS, drafter, feed=feed)
    assert events == expected


def test_a_shard_that_somebody_has_begun_is_not_read_ahead(planned):
    plan, root = planned
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        feed.open(plan.shards[1]).readings.close()
        num_threads = reading_threads()
        feed.open_after(0)
        assert reading_threads() == num_threads


def test_tasks_of_one_process_list_the_inbox_once_and_leave_nothing_open(planned, monkeypatch):
    plan, root = planned
    listed: list[str] = []
    settings = Settings(hmac_key=SecretStr(KEY), root=root.root)
    monkeypatch.setattr(night_steps, "bundle_pipeline", lambda *_: StandInDrafter())
    monkeypatch.setattr(night_steps, "open_root", lambda: (root, settings))
    monkeypatch.setattr(night_feed, "list_inbox", lambda inbox, name: listed.append("once") or list_inbox(inbox, name))
    results = [night_steps.draft_shard(plan, shard, root, settings) for shard in plan.shards]
    assert listed == ["once"]
    assert sum(each.num_accepted + each.num_quarantined for each in results) == plan.num_new
    night_steps.draft_shard(plan, plan.shards[0], root, settings)
    night_steps.give_back(plan)
    assert reading_threads() == 0


def num_remembered() -> int:
    """Return how many objects of an inbox this process knows."""
    return sum(isinstance(each, InboxObject) for each in gc.get_objects())


def test_while_a_night_is_published_nothing_is_remembered_of_the_inbox(planned, monkeypatch):
    plan, root = planned
    settings = Settings(hmac_key=SecretStr(KEY), root=root.root)
    monkeypatch.setattr(night_steps, "bundle_pipeline", lambda *_: StandInDrafter())
    before = num_remembered()
    results = [night_steps.draft_shard(plan, shard, root, settings) for shard in plan.shards]
    assert num_remembered() > before
    seen: list[int] = []
    publish = nightly.publish_night
    monkeypatch.setattr(nightly, "publish_night", lambda *given: seen.append(num_remembered()) or publish(*given))
    night_steps.close_night(plan, results, root)
    with ShardFeed(plan, root, PSEUDONYMS) as feed:
        feed.open(plan.shards[0]).readings.close()
    # a feed that is closed, but still known to somebody
    assert [*seen, num_remembered()] == [before, before]


def test_a_night_says_once_how_many_hidden_objects_are_no_inputs(tmp_path, caplog):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 3)  # one of them is hidden
    inbox.put("a/.part/2.dcm", b"x")
    with caplog.at_level(logging.INFO):
        assert run_test_night(inbox, root, StandInDrafter(), shard_size=1).num_inputs == 9
    assert [said for said in caplog.messages if "hidden" in said] == ["2 hidden objects of the inbox are no inputs"]
