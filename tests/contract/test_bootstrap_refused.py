"""``crrg bootstrap`` at a server that does not answer: a line that names the variable, and exit code 1."""

from __future__ import annotations

import httpx
import pytest
from prefect.exceptions import ObjectNotFound

from deployments import bootstrap


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.UnsupportedProtocol("none"), ObjectNotFound(Exception())]
)
def test_a_server_that_does_not_answer_is_a_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> list[str]:
        raise error

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(bootstrap, "bootstrap", fail)
    with pytest.raises(SystemExit) as ended:
        bootstrap.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crrg: StorageError: PREFECT_API_URL: ")
    assert "at http://127.0.0.1:9/api; start the Prefect server" in line
