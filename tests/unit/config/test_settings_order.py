"""The order in which settings win: variables, the TOML file, flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crrg.cli.running import use_root
from crrg.config.base import Settings
from crrg.errors import ConfigError


@pytest.fixture(autouse=True)
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRRG_ROOT", "/of/the/variable")
    monkeypatch.setenv("CRRG_PRINCIPAL", "variable")


def test_a_variable_wins_over_what_is_built_in() -> None:
    assert Settings().root == "/of/the/variable"


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [name for name, field in Settings.model_fields.items() if field.annotation == Path | None]
    assert len(files) == 5
    for name in files:
        monkeypatch.setenv(f"CRRG_{name.upper()}", "")
    assert {getattr(Settings(), name) for name in files} == {None}


def test_the_file_wins_over_variables_where_it_says_something(tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text('root = "/of/the/file"\n')
    settings = Settings()
    assert settings.root == "/of/the/file"
    assert settings.principal == "variable"


def test_a_flag_wins_over_both_here_and_in_children(tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text('root = "/of/the/file"\nprincipal = "file"\n')
    use_root("s3://of-the-flag/crrg")
    assert (Settings().root, Settings().principal) == ("s3://of-the-flag/crrg", "file")
    script = "import json; from crrg.config.base import Settings; print(json.dumps(Settings().root))"
    child = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert json.loads(child.stdout) == "s3://of-the-flag/crrg"


def test_no_flag_leaves_the_others(tmp_path: Path) -> None:
    use_root("")
    assert Settings().root == "/of/the/variable"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("CRRG_ROOT", "root"), ("rot", "root"), ("hmac_kye_file", "hmac_key_file"), ("mlflow_uri", "mlflow_tracking_uri")],
)
def test_an_unknown_name_in_the_file_is_refused_with_the_nearest_one(name: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text(f'{name} = "s3://secret/of/mine"\n')
    with pytest.raises(ConfigError, match=rf"crrg\.toml: .*`{name}` \(`{meant}`\?\)") as raised:
        Settings()
    known = str(raised.value).partition("known: ")[2].split(", ")
    assert set(known) == set(Settings.model_fields)
    assert "secret/of" not in str(raised.value)


def test_a_name_like_no_other_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text("[night]\nlimit = 3\n")
    with pytest.raises(ConfigError, match="`night`;"):
        Settings()


def test_every_setting_may_stand_in_the_file_by_its_name(tmp_path: Path) -> None:
    numbers = {name: field for name, field in Settings.model_fields.items() if field.annotation in (int, float)}
    values = {name: str(field.default) for name, field in numbers.items()}
    values |= {"s3_read_timeout_s": "5.0", "max_pixels": "2000000", "s3_sse": '"AES256"', "s3_endpoint": '"http://x"'}
    lines = [f"{name} = {values.get(name, repr('x'))}" for name in Settings.model_fields]
    (tmp_path / "crrg.toml").write_text("\n".join(lines))
    settings = Settings()
    assert (settings.aws_region, settings.mlflow_tracking_uri, settings.s3_read_timeout_s) == ("x", "x", 5.0)
    assert settings.max_pixels == 2_000_000
    (tmp_path / "crrg.toml").write_text('AWS_REGION = "eu-central-1"\n')
    assert Settings().aws_region == "eu-central-1"


@pytest.mark.parametrize("address", ["127.0.0.1:9000", "key:secret@store:9000", "seaweed", "s3://store", "http://"])
def test_an_endpoint_that_is_no_address_is_refused_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_S3_ENDPOINT", address)
    with pytest.raises(ConfigError, match=r"^CRRG_S3_ENDPOINT: it is no address; write it like http://host:port$"):
        Settings()


def test_an_endpoint_is_an_address_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "http://127.0.0.1:9000", "https://s3.example.org"):
        monkeypatch.setenv("CRRG_S3_ENDPOINT", address)
        assert Settings().s3_endpoint == address
