"""A run that somebody cancels is called cancelled, not crashed; a command that gets SIGTERM still exits with 143."""

from __future__ import annotations

import pytest
from prefect.exceptions import TerminationSignal

from tasks import policy


def end_with(code: int) -> None:
    with policy.cancelled_as_such():
        raise SystemExit(code)


def test_a_training_that_is_cancelled_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(policy, "is_being_cancelled", lambda: True)
    monkeypatch.setattr(policy.control_listener, "_set_intent", said.append)
    with pytest.raises(TerminationSignal):
        end_with(143)
    assert said == ["cancel"]
    with pytest.raises(SystemExit, match="2"):
        end_with(2)


def test_without_a_cancellation_the_code_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "is_being_cancelled", lambda: False)
    with pytest.raises(SystemExit, match="143"):
        end_with(143)


def test_without_a_server_nobody_has_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: object) -> None:
        raise OSError

    monkeypatch.setattr(policy, "get_client", away)
    assert not policy.is_being_cancelled()
