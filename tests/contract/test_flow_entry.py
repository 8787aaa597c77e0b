"""The process that runs a flow: what it does where its server does not answer, and where a night ended badly."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from crrg.cli.endings import ENDINGS, Ending
from crrg.config.base import Settings
from crrg.config.references import NightSummary
from crrg.config.running import NightlyConfig
from crrg.errors import NightStopped, StorageError, TooManyRefused
from crrg.operations.night.nightly import check_ended_well, exit_code
from crrg.operations.summaries import night_markdown
from crrg.storage import Storage
from flows import __main__ as entry
from flows.finished import keep

REFUSED = NightSummary(
    date="2026-11-20",
    status="committed",
    reasons={"PARSE.TRUNCATED": 2, "DECODE.CRASH": 5},
    failure_share=0.7,
    exceeds_failure_rate=True,
    num_failed_studies=6,
)


def run(monkeypatch, tmp_path, error: Exception, *, with_direct: bool = True, published: NightSummary | None = None):
    def fail(name: str, config: object) -> None:
        if published is not None:
            keep(published)
        raise error

    monkeypatch.setattr(entry, "run_flow", fail)
    ending = Ending(NightlyConfig, str, direct=(lambda *_: "went on") if with_direct else None)
    monkeypatch.setitem(ENDINGS, "nightly", ending)
    return entry.run_or_go_on("nightly", None, Storage(str(tmp_path)), Settings())


def status_error(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1/api/artifacts/")
    return httpx.HTTPStatusError("refused", request=request, response=httpx.Response(code, request=request))


def caused_by(cause: Exception) -> RuntimeError:
    error = RuntimeError("the flow crashed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        caused_by(httpx.ReadTimeout("late")),
        RuntimeError("Failed to reach API at x"),
        status_error(503),
    ],
)
def test_night_goes_on_without_a_server_that_does_not_answer(monkeypatch, tmp_path, error):
    assert run(monkeypatch, tmp_path, error) == "went on"


def test_a_wrong_variable_ends_with_a_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("CRRG_S3_SSE", "x")
    with pytest.raises(SystemExit) as ended:
        entry.main("nightly", '{"inbox": "inbox"}')
    assert ended.value.code == 2
    assert "sse" in capsys.readouterr().err.lower()


def test_the_orchestrators_folder_in_a_root_is_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o022)
    try:
        monkeypatch.setattr(entry.os, "environ", {})
        entry.prepare_environment(Storage(str(tmp_path / "root")), is_hurried=False)
    finally:
        os.umask(before)
    found = [tmp_path / "root", *(tmp_path / "root").rglob("*")]
    assert len(found) == 2
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_night_that_was_published_before_its_server_went_away_ends_as_it_was_published(monkeypatch, tmp_path):
    summary = run(monkeypatch, tmp_path, httpx.ConnectError("refused"), published=REFUSED)
    assert (summary, exit_code(summary)) == (REFUSED, 3), "run again it would have had nothing to do, and ended with 0"
    assert run(monkeypatch, tmp_path, httpx.ConnectError("refused")) == "went on", "kept for one run only"


def test_other_errors_and_other_flows_end_as_before(monkeypatch, tmp_path):
    with pytest.raises(StorageError):
        run(monkeypatch, tmp_path, StorageError("out of reach"))
    with pytest.raises(httpx.HTTPStatusError):
        run(monkeypatch, tmp_path, status_error(422))
    with pytest.raises(httpx.ConnectError):
        run(monkeypatch, tmp_path, httpx.ConnectError("refused"), with_direct=False)


def test_night_that_refused_too_much_fails_with_its_reasons_and_exit_code_3(monkeypatch, tmp_path):
    with pytest.raises(TooManyRefused) as caught:
        check_ended_well(REFUSED)
    said = str(caught.value)
    assert "70.0 % of the inputs in scope were refused" in said
    assert said.index("| DECODE.CRASH | 5 |") < said.index("| PARSE.TRUNCATED | 2 |")
    summary = run(monkeypatch, tmp_path, caught.value)
    assert (summary, exit_code(summary)) == (REFUSED, 3)
    check_ended_well(REFUSED.model_copy(update={"exceeds_failure_rate": False}))


def test_a_single_bad_study_of_a_small_night_says_so_and_fails_no_night(caplog):
    small = {"reasons": {"PARSE.TRUNCATED": 5, "VIEW.LATERAL": 9}, "failure_share": 0.25, "num_failed_studies": 2}
    summary = REFUSED.model_copy(update=small)
    check_ended_well(summary)
    assert "25.0 % of the inputs in scope were refused" in caplog.text
    assert "fewer than 3 studies" in caplog.text
    assert exit_code(summary) == 3
    with pytest.raises(TooManyRefused):
        check_ended_well(summary.model_copy(update={"num_failed_studies": 3}))


def test_night_that_an_operator_stopped_fails_with_who_may_let_it_go_on_and_exit_code_1(monkeypatch, tmp_path):
    stopped = NightSummary(date="2026-11-20", status="stopped", num_inputs=7, num_pending=7)
    with pytest.raises(NightStopped, match=r"nothing is published: the object control/STOP .* operates the root"):
        check_ended_well(stopped)
    summary = run(monkeypatch, tmp_path, NightStopped("stopped", "night", summary=stopped))
    assert (summary, exit_code(summary)) == (stopped, 1)
    assert "control/STOP" in night_markdown(summary)


def test_a_night_that_another_one_keeps_from_beginning_fails_and_one_that_is_run_elsewhere_does_not():
    night = NightSummary(date="2026-11-20", status="held", held_by="night 2026-11-19 is held by process 7")
    with pytest.raises(NightStopped, match=r"^night 2026-11-20: not begun: night 2026-11-19 is held by process 7$"):
        check_ended_well(night)
    check_ended_well(night.model_copy(update={"is_run_elsewhere": True}))
    check_ended_well(NightSummary(date="2026-11-20", status="nothing_new"))
