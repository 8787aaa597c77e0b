"""A secret that others could try is refused, and one that must be left behind is still read."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.errors import ConfigError
from tests.support.keys import KEY, NEW_KEY


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("k" * 32, "1 different"),
        ("ab" * 40, "2 different"),
        ("correct-horse-battery" * 2, "repeats itself"),
        ("end-to-end-tests-only-" * 2, "contains a word"),
        ("0123456789abcdef0123456789abcdef", "contains a word"),
        ("ChangeMe-before-it-is-used-in-earnest", "contains a word"),
        ("".join(map(chr, range(64, 100))), "are sequential"),
    ],
)  # fmt: skip
def test_a_known_secret_is_refused_and_the_way_out_named(key: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"CRRG_HMAC_KEY: .*{why}.*openssl rand -hex 32.*crrg rekey") as refused:
        Settings.model_validate({"hmac_key": key}).pseudonym_key()
    assert key not in str(refused.value)
    (tmp_path / "key").write_text(key)
    with pytest.raises(ConfigError, match=why):
        Settings(hmac_key_file=tmp_path / "key").pseudonym_key()
    assert Settings.model_validate({"old_hmac_key": key}).old_pseudonym_key() == key.encode()


def test_random_secrets_are_taken() -> None:
    for _ in range(200):
        for key in (secrets.token_hex(32), secrets.token_hex(16), base64.b64encode(bytes(range(7, 250, 7))).decode()):
            assert Settings.model_validate({"hmac_key": key}).pseudonym_key() == key.encode()


def test_the_secrets_of_the_tests_are_taken_and_differ() -> None:
    for key in (KEY, NEW_KEY):
        assert Settings.model_validate({"hmac_key": key}).pseudonym_key() == key.encode()
    assert KEY != NEW_KEY


@pytest.mark.parametrize(
    ("variable", "instead"),
    [
        ("CRRG_S3_ENDPOINT", "AWS_ACCESS_KEY_ID"),
        ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME"),
        ("CRRG_MLFLOW_PUBLIC_URL", "MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_an_address_holds_no_password(monkeypatch: pytest.MonkeyPatch, variable: str, instead: str) -> None:
    password = secrets.token_hex(8)
    monkeypatch.setenv(variable, "http://store:9000/a@b")
    Settings()
    monkeypatch.setenv(variable, f"https://someone:{password}@store:9000/path")
    with pytest.raises(ConfigError, match=f"{variable}: .*{instead}") as caught:
        Settings()
    assert password not in str(caught.value)
