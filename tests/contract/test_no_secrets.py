"""No tracked file holds what looks like a credential, and the scan would notice one."""

from __future__ import annotations

import math
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

SHAPES = {
    "AWS key id": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "password in an address": r"://[^/\s:@\"'<>{}$]+:[^/\s:@\"'<>{}$…]+@[\w.-]+",
}
ASSIGNED = re.compile(
    r"(?i)(?:secret|passw(?:or)?d|token|api_?key|access_?key|hmac_?key|auth_string)\w*[\"']?\s*[:=]\s*[\"']([^\"'\s]{16,})[\"']"
)
MIN_ENTROPY_BITS = 3.5
"""Per character; words and repeated letters lie below, keys from a generator above."""
LOCKS = re.compile(r"requirements.*\.lock")


def entropy_bits(text: str) -> float:
    counts = Counter(text).values()
    return -sum(each / len(text) * math.log2(each / len(text)) for each in counts)


def findings(text: str) -> list[str]:
    """Return what in a text looks like a credential, by kind; never the credential."""
    found = [kind for kind, shape in SHAPES.items() if re.search(shape, text)]
    assigned = [value for value in ASSIGNED.findall(text) if not re.fullmatch(r"[a-z]+(?:[-_./ ][a-z]+)*-?", value)]
    return found + ["assigned secret" for value in assigned if entropy_bits(value) >= MIN_ENTROPY_BITS]


def tracked_files(checkout: Path) -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout here")
    return [checkout / name for name in done.stdout.split("\0") if name and not LOCKS.fullmatch(name)]


def test_no_tracked_file_holds_a_credential(checkout: Path) -> None:
    files = tracked_files(checkout)
    assert len(files) > 300
    found = []
    for path in files:
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            found += [f"{path.relative_to(checkout)}: {kind}" for kind in findings(data.decode(errors="replace"))]
    assert found == []


@pytest.mark.parametrize(
    "parts",
    [
        ("AKI", "AQ7RT2M5WXB3LK9PD"),
        ("-----BEGIN RSA ", "PRIVATE KEY-----"),
        ("ghp", "_" + "a1B2" * 9),
        ("https://", "someone:hunter2@example.org/"),
        ('secret_access_key = "', 'wJalrXUtnFEMIK7MDENGbPxRfiCYzzKEY9qTx"'),
        ('{"api_key": "', '9f8b2c61d04e7a35c8f1"}'),
    ],
)
def test_the_scan_would_notice(parts: tuple[str, str]) -> None:
    assert findings("".join(parts)) != []


@pytest.mark.parametrize(
    "text",
    [
        'HMAC_KEY = "end-to-end-tests-only-" * 2',
        "AWS_SECRET_ACCESS_KEY=…",
        'access_key, secret_key = "crrg-test-key", "crrg-test-secret"',
        'secret_key=keys["secret_key"]',
    ],
)
def test_placeholders_are_no_credentials(text: str) -> None:
    assert findings(text) == []
