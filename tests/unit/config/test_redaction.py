"""Secrets leave no trace in log lines, whoever logs them and however."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from crrg.config.base import Settings, StorageSettings
from crrg.config.redaction import MASK, Redactor, keep_out_of_logs
from crrg.errors import ConfigError
from crrg.operations.root import make_demo_root, open_root
from crrg.storage import Storage

CANARY = "canary/secret+that=sings-0123456789"
KEY = "hmac-canary-that-sings-0123456789abcdef"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a handler of another library writes, of every logger."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AccessCanary01")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:canary-of-prefect")
    return Settings()


@pytest.mark.parametrize("logger", ["crrg.storage", "prefect.flow_runs", "mlflow", "botocore.auth", "x"])
def test_no_logger_and_no_handler_shows_a_secret(
    settings: Settings, lines: io.StringIO, logger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger(logger)
    # whatever the library has set up for its logger in this process, its lines go to the handler of the test alone
    own = [each for each in logging.getLogger().handlers if getattr(each, "stream", None) is lines]
    monkeypatch.setattr(log, "handlers", own)
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "disabled", False)
    log.warning("sent %s with %s", CANARY, {"key": KEY, "id": "AccessCanary01"})
    log.warning(
        f"at http://s3/?X-Amz-Credential=a&sig={CANARY.replace('/', '%2F').replace('+', '%2B').replace('=', '%3D')}"
    )
    log.error("header of %s", "admin:canary-of-prefect", stack_info=True)
    try:
        raise ValueError(f"wrong secret {CANARY}")
    except ValueError:
        log.exception("failed")
    said = lines.getvalue()
    assert said.count(MASK) >= 6
    for secret in (CANARY, KEY, "AccessCanary01", "canary-of-prefect", "secret%2Bthat"):
        assert secret not in said
    assert f"{logger} sent {MASK}" in said
    assert "Traceback" in said


def test_lines_without_secrets_keep_their_arguments(settings: Settings) -> None:
    record = logging.getLogger("uvicorn.access").makeRecord(
        "uvicorn.access", logging.INFO, __file__, 1, '%s - "%s %s" %d', ("127.0.0.1", "GET", "/", 200), None
    )
    assert record.args == ("127.0.0.1", "GET", "/", 200)


def test_a_line_that_cannot_be_formatted_shows_no_secret(settings: Settings) -> None:
    record = logging.getLogger("x").makeRecord("x", logging.INFO, __file__, 1, "%d of %d", (CANARY,), None)
    assert CANARY not in f"{record.msg} {record.args}"


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("http://user:" + "hunter2-hunter2@mlflow:5000/x", "hunter2-hunter2"),
        ("GET /k?X-Amz-Signature=0a1b2c&X-Amz-Credential=AKIA%2F20261128&x=1", "0a1b2c"),
        ("{'Authorization': 'Basic YWRtaW46cGFzcw=='}", "YWRtaW46cGFzcw"),
        ("Authorization: Bearer abc.def", "abc.def"),
    ],
)
def test_forms_that_are_always_secret_are_masked(said: str, hidden: str) -> None:
    masked = Redactor().mask(said)
    assert hidden not in masked
    assert MASK in masked


def test_short_words_are_left_and_nothing_is_masked_before_it_is_known() -> None:
    redactor = Redactor()
    assert redactor.mask("crrg and a-long-secret") == "crrg and a-long-secret"
    redactor.add(["crrg", "", "a-long-secret"])
    assert redactor.mask("crrg and a-long-secret") == f"crrg and {MASK}"


def test_the_filter_stands_once(settings: Settings) -> None:
    keep_out_of_logs(["another-secret"])
    before = logging.getLogRecordFactory()
    Settings()
    keep_out_of_logs(["yet-another-secret"])
    assert logging.getLogRecordFactory() is before


def test_secrets_from_files_are_known_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: io.StringIO) -> None:
    (tmp_path / "key").write_text("key-in-a-file-97531-and-of-its-own-86420\n")
    Settings(hmac_key_file=tmp_path / "key").pseudonym_key()
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    make_demo_root()
    open_root()
    demo = (tmp_path / "root/demo.key").read_text()
    logging.getLogger("x").warning("key-in-a-file-97531-and-of-its-own-86420 and %s", demo)
    assert demo not in lines.getvalue()
    assert "key-in-a-file" not in lines.getvalue()


def test_a_file_of_a_secret_that_cannot_be_read_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"CRRG_OLD_HMAC_KEY_FILE: .*No such file"):
        Settings(old_hmac_key_file=tmp_path / "absent").old_pseudonym_key()


def test_settings_and_what_is_made_of_them_show_no_secret(settings: Settings) -> None:
    storage = Storage("s3://bucket/root", settings.storage)
    _ = storage.filesystem
    shown = [repr(item) for item in (settings, settings.storage, storage, storage.filesystem)]
    shown += [str(settings), settings.model_dump_json(), str(StorageSettings.model_validate(settings.storage))]
    for text in shown:
        assert CANARY not in text
        assert KEY not in text
        assert "AccessCanary01" not in text
