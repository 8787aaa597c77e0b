"""The proxy's configuration takes nothing that is not what it stands for, and says which flag is wrong."""

from __future__ import annotations

import pytest

from deployments.proxy import Proxy, main, nginx_config

NAMES = {"prefect_name": "prefect.example.org", "mlflow_name": "mlflow.example.org"}
FILES = {"certificate": "/etc/ssl/crrg.pem", "key": "/etc/ssl/crrg.key"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefect_name", "a; return 200"), ("mlflow_name", "Example.org"), ("mlflow_name", "prefect.example.org"),
        ("certificate", "cert.pem"), ("key", "/a; }"), ("listen", "https"), ("sign_on", "http://a/path"),
        ("sign_on", "127.0.0.1:4180"), ("prefect", ""), ("mlflow", "file:///etc/passwd"),
    ],
)  # fmt: skip
def test_what_is_no_name_address_or_path_is_refused_by_its_flag(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^--{name.replace('_', '-')}: "):
        nginx_config(Proxy(**{**NAMES, **FILES, name: value}))


def test_both_names_are_served_over_tls_under_a_policy_each(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**NAMES, **FILES}.items()]
    assert main(flags) == 0
    printed = capsys.readouterr().out
    assert printed.count("listen 443 ssl") == 3
    assert "listen 80" not in printed
    assert printed.count("Content-Security-Policy \"default-src 'none'; ") == 2
    assert "*" not in printed.partition("connect-src")[0]
    assert "auth_request" not in printed
    assert main([*flags, "--sign-on=http://127.0.0.1:4180"]) == 0
    assert capsys.readouterr().out.count("auth_request /oauth2/auth;") == 2


def test_a_wrong_flag_ends_the_command_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--prefect-name=A", "--mlflow-name=b", "--certificate=/c", "--key=/k"])
    assert ended.value.code == 2
    assert "expected host name in lower case, got 'A'" in capsys.readouterr().err
