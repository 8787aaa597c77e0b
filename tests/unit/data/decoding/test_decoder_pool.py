from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from crrg.data.decoding import pool as decoder_pool
from crrg.data.decoding import process as decoder_process
from crrg.data.decoding.limits import DecoderLimits
from crrg.data.decoding.pool import IdleDecoders, decode_many
from crrg.data.decoding.process import Child
from crrg.data.decoding.shared_films import MAX_PLACED_BYTES, FilmPlaces
from crrg.data.film import DecodedFilm
from crrg.errors import DataError, DicomError, ImageError
from tests.support.dicom_builder import build_dicom, gradient


def picture(index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(0, 200, 4, dtype=np.uint8) + index, (40, 1))).save(buffer, "PNG")
    return buffer.getvalue()


def test_children_give_what_this_process_gives_in_order():
    passed_on = ImageError("too large", code="LIMIT.FILE_SIZE")
    items = [picture(i) for i in range(20)]
    items[3] = b"garbage"
    items[5] = build_dicom(PatientID="P-9", PatientName="Quux^Zebedee", PixelSpacing=["0.2", "0.2"])
    items[7] = passed_on
    items[9] = build_dicom(BodyPartExamined="HIP")
    here = list(decode_many(items, 64, 0))
    there = list(decode_many(iter(items), 64, 2, DecoderLimits(files_per_child=8)))
    assert len(there) == 20
    for ours, theirs in zip(here, there, strict=True):
        if isinstance(ours, DecodedFilm):
            assert np.array_equal(ours.film.pixels, theirs.film.pixels)
            assert ours.film.pixel_digest == theirs.film.pixel_digest
            assert ours.film.pixel_spacing_mm == theirs.film.pixel_spacing_mm
            assert ours.film.flags == theirs.film.flags
            assert ours.header == theirs.header
        else:
            assert (type(ours), ours.code, ours.reason) == (type(theirs), theirs.code, theirs.reason)
    assert there[7] is passed_on
    assert there[5].header.names == ("Quux^Zebedee",)
    assert there[9].code == "BODY_PART.NOT_CHEST"


def test_a_child_without_memory_costs_its_file_only():
    items = [build_dicom(), build_dicom(gradient(6000, 6000)), build_dicom(gradient(30, 30))]
    first, large, last = decode_many(items, 64, 1, DecoderLimits(max_memory_bytes=350 * 2**20))
    assert isinstance(first, DecodedFilm)
    assert isinstance(large, DataError)
    assert large.code in {"LIMIT.MEMORY", "DECODE.CRASH"}
    assert isinstance(last, DecodedFilm)


def test_a_hanging_child_is_replaced(monkeypatch):
    give = Child.give

    def give_and_freeze(self, job, image_size):
        if job.index == 1:
            self.process.send_signal(signal.SIGSTOP)
        give(self, job, image_size)
        if job.index == 1:
            self.deadline_s = 0.0

    monkeypatch.setattr(Child, "give", give_and_freeze)
    monkeypatch.setattr("crrg.data.decoding.process.JOBS_PER_CHILD", 1)
    first, slow, last = decode_many([picture(0), picture(1), picture(2)], 64, 1)
    assert isinstance(first, DecodedFilm)
    assert isinstance(slow, DicomError)
    assert slow.code == "DECODE.TIMEOUT"
    assert isinstance(last, DecodedFilm)


def test_time_in_which_all_of_this_was_stopped_is_no_file_s(monkeypatch):
    """A container that is paused, and goes on after an hour."""
    give, away_s = Child.give, [0.0]

    def give_and_stop(self, job, image_size):
        give(self, job, image_size)
        away_s[0] += 3600

    monkeypatch.setattr(decoder_process, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + away_s[0]))
    clock = decoder_process.OwnClock()
    monkeypatch.setattr(decoder_process, "own_clock", clock)
    monkeypatch.setattr(decoder_pool, "own_clock", clock)
    monkeypatch.setattr(Child, "give", give_and_stop)
    pictures = [picture(number) for number in range(4)]
    assert all(isinstance(outcome, DecodedFilm) for outcome in decode_many(pictures, 64, 2))


def test_a_clock_that_nobody_looked_at_goes_on_by_a_little(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr(decoder_process, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    clock, seen = decoder_process.OwnClock(), []
    for step_s in (0, 1, 1, 100, 1):
        now_s[0] += step_s
        seen.append(clock.now_s())
    assert seen == [0, 1, 2, 4, 5]


def test_a_file_that_kills_two_children_is_refused(monkeypatch):
    give, tries = Child.give, []

    def give_and_kill(self, job, image_size):
        if job.index == 1:
            self.process.kill()
            self.process.wait()
            tries.append(job.tries)
        give(self, job, image_size)

    monkeypatch.setattr(Child, "give", give_and_kill)
    monkeypatch.setattr("crrg.data.decoding.process.JOBS_PER_CHILD", 1)
    first, killer, last = decode_many([picture(0), picture(1), picture(2)], 64, 1)
    assert isinstance(first, DecodedFilm)
    assert killer.code == "DECODE.CRASH"
    assert tries == [0, 1]
    assert isinstance(last, DecodedFilm)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_what_lay_ready_for_a_lost_child_is_decoded_by_another(monkeypatch, how):
    give, given = Child.give, []

    def give_and_lose(self, job, image_size):
        is_first_time = (job.index, self.process.pid) not in given and not any(index == 3 for index, _ in given)
        given.append((job.index, self.process.pid))
        if job.index == 3 and is_first_time:
            self.process.send_signal(signal.SIGSTOP)
        give(self, job, image_size)
        if job.index == 3 and is_first_time:
            assert len(self.jobs) == 2
            self.process.send_signal(how)
            if how == signal.SIGSTOP:
                self.deadline_s = 0.0

    monkeypatch.setattr(Child, "give", give_and_lose)
    # the child is stopped at the third, which must take longer than the time until it is
    pictures = [picture(number) if number != 2 else build_dicom(gradient(4000, 4000)) for number in range(6)]
    outcomes = list(decode_many(pictures, 64, 1))
    children = [pid for index, pid in given if index == 3]
    assert len(children) == len(set(children)) == 2
    lost = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, DecodedFilm)]
    # only the one it worked on may be blamed, and only for the time it took
    assert lost == ([] if how == signal.SIGKILL else [2])
    assert [outcomes[number].code for number in lost] == ["DECODE.TIMEOUT"] * len(lost)
    for number in set(range(6)) - set(lost):
        alone = next(decode_many([pictures[number]], 64, 0))
        assert np.array_equal(outcomes[number].film.pixels, alone.film.pixels)


def placed(places: FilmPlaces, data: bytes):
    film = places.take(len(data))
    with film.view() as memory:
        memory[:] = data
    return film


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_placed_films_decode_as_their_bytes_do(num_workers):
    files = [picture(0), build_dicom(), b"not a film", picture(3), build_dicom(gradient(200, 90)), picture(5)]
    wanted = list(decode_many(files, 64, 1))
    with closing(FilmPlaces(4)) as places:
        items = (data if number % 3 == 2 else placed(places, data) for number, data in enumerate(files))
        found = list(decode_many(items, 64, num_workers, places=places))
        for ours, theirs in zip(found, wanted, strict=True):
            if isinstance(theirs, DecodedFilm):
                assert np.array_equal(ours.film.pixels, theirs.film.pixels)
            else:
                assert (ours.code, ours.reason) == (theirs.code, theirs.reason)
        assert [places.take(1) is not None for _ in range(5)] == [True, True, True, True, False]


def test_a_place_is_used_again_and_a_large_film_gets_none():
    with closing(FilmPlaces(1)) as places:
        for data in (picture(0), build_dicom(gradient(300, 300)), picture(1)):
            (found,) = decode_many([placed(places, data)], 64, 1, places=places)
            (wanted,) = decode_many([data], 64, 0)
            assert np.array_equal(found.film.pixels, wanted.film.pixels)
        assert places.take(0) is None
        assert places.take(MAX_PLACED_BYTES + 1) is None


def test_the_place_of_a_film_that_kills_its_child_is_given_back(monkeypatch):
    give = Child.give

    def give_and_kill(self, job, image_size):
        if job.index == 0:
            self.process.kill()
            self.process.wait()
        give(self, job, image_size)

    monkeypatch.setattr(Child, "give", give_and_kill)
    with closing(FilmPlaces(2)) as places:
        killer, good = decode_many([placed(places, picture(0)), placed(places, picture(1))], 64, 1, places=places)
        assert killer.code == "DECODE.CRASH"
        assert isinstance(good, DecodedFilm)
        assert places.take(1) is not None
        assert places.take(1) is not None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are reopened through /proc")
def test_children_can_only_read_places():
    with closing(FilmPlaces(1)) as places:
        placed(places, b"film")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(places.descriptors[0], b"x", 0)
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(places.descriptors[0], 0)
        assert os.pread(places.descriptors[0], 4, 0) == b"film"


def environment_of(pid: int) -> bytes:
    """Read a child's environment; it is empty for a moment while the child's program is being loaded."""
    deadline = time.monotonic() + 20
    while not (found := Path(f"/proc/{pid}/environ").read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_children_know_no_secret(monkeypatch):
    monkeypatch.setenv("CRRG_HMAC_KEY", "canary-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    child = Child(DecoderLimits())
    try:
        environment = environment_of(child.process.pid)
    finally:
        child.end()
    assert b"canary" not in environment
    assert b"PYTHONPATH" in environment


def test_a_reader_that_stops_early_leaves_no_child():
    outcomes = decode_many([picture(i) for i in range(5)], 64, 1)
    next(outcomes)
    outcomes.close()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children if Path(f"/proc/{pid}").exists()]
    assert not any(b"decoder_child" in command for command in commands)


def test_nothing_to_decode_starts_no_child(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a child was started"))
    passed_on = ImageError("gone", code="CHANGED.GONE")
    assert list(decode_many([], 64, 2)) == []
    assert list(decode_many([passed_on], 64, 2)) == [passed_on]


def test_an_error_of_the_reader_comes_through():
    def items():
        yield picture(0)
        raise RuntimeError("store went away")

    with pytest.raises(RuntimeError, match="store went away"):
        list(decode_many(items(), 64, 1))


def test_children_that_wait_serve_the_next_call_and_end_when_told():
    idle = IdleDecoders(lambda: DecoderLimits(files_per_child=3))
    first = idle.take()
    idle.put_by(first)
    assert len(list(decode_many([picture(0), picture(1)], 64, 1, idle=idle))) == 2
    assert idle.take() is first
    idle.put_by(first)
    assert len(list(decode_many([picture(2)], 64, 1, idle=idle))) == 1
    assert first.process.poll() is not None, "it has done its share of files"
    second = idle.take()
    assert second is not first
    idle.put_by(second)
    idle.end()
    assert second.process.poll() is not None


def test_a_reader_that_stops_early_keeps_no_child_at_work():
    idle = IdleDecoders(DecoderLimits)
    outcomes = decode_many((picture(index) for index in range(30)), 64, 1, idle=idle)
    next(outcomes)
    outcomes.close()
    child = idle.take()
    assert child.job is None
    child.end()


def test_children_that_load_ahead_are_those_that_are_taken(monkeypatch):
    started: list[Child] = []

    class Counted(Child):
        def __init__(self, limits: DecoderLimits) -> None:
            super().__init__(limits)
            started.append(self)

    monkeypatch.setattr(decoder_pool, "Child", Counted)
    idle = IdleDecoders(DecoderLimits)
    idle.prepare(2)
    assert [child.process.poll() for child in started] == [None, None]
    idle.prepare(1)
    assert {idle.take(), idle.take()} == set(started)
    for child in started:
        idle.put_by(child)
    idle.end()
    assert [child.process.poll() is None for child in started] == [False, False]


def test_a_child_loads_nothing_that_fetches_from_a_network():
    loading = "import sys; from crrg.data.decoding import child; child._load_codecs(); print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", loading], check=True, capture_output=True, text=True).stdout.split()
    )
    assert {"pydicom", "imagecodecs"} <= loaded
    assert not {"urllib3", "charset_normalizer"} & loaded


def test_a_child_that_died_while_it_waited_costs_no_file():
    idle = IdleDecoders(DecoderLimits)
    dead = idle.take()
    dead.process.kill()
    dead.process.wait()
    idle.put_by(dead)
    assert isinstance(next(decode_many([picture(0)], 64, 1, idle=idle)), DecodedFilm)
    idle.end()
