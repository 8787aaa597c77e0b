"""The secret of the pseudonyms: read from the environment or a file, refused where others could know it."""

from __future__ import annotations

import stat
from itertools import pairwise
from pathlib import Path

from pydantic import SecretStr

from crrg.config.redaction import keep_out_of_logs
from crrg.errors import ConfigError

MIN_HMAC_KEY_BYTES = 32
MIN_DISTINCT_BYTES = 8
"""A key of 32 random hexadecimal digits has fewer different ones four times in a hundred million."""
WORDS = (b"test", b"demo", b"example", b"sample", b"dummy", b"change", b"secret", b"password", b"0123456789")
"""What keys of examples and of tests are made of; a random key in Base64 holds one about once in ten thousand."""


def read_secret_key(value: SecretStr, file: Path | None, name: str) -> bytes:
    """Return a secret from its file, or else from the environment.

    Args:
        value: What the environment gives.
        file: The file that holds it instead.
        name: Variable that a user sets.

    Raises:
        ConfigError: There is none, it is shorter than 32 bytes, or its file cannot be read.
    """
    if file is not None:
        try:
            key = file.read_bytes().strip()
        except OSError as error:
            raise ConfigError(
                f"the file of the secret cannot be read ({error.strerror}); check its path and owner", f"{name}_FILE"
            ) from error
        keep_out_of_logs((key.decode(errors="replace"),))
    else:
        key = value.get_secret_value().encode()
    if len(key) < MIN_HMAC_KEY_BYTES:
        raise ConfigError(
            f"pseudonyms need a secret of at least {MIN_HMAC_KEY_BYTES} bytes, got {len(key)}; "
            f"set {name} or {name}_FILE (for example: openssl rand -hex 32)",
            name,
        )
    return key


def is_readable_by_others(file: Path | None) -> bool:
    """Return whether accounts other than its owner and its group may read a secret's file; without one none may."""
    return file is not None and bool(file.stat().st_mode & stat.S_IROTH)


def check_secret_key(key: bytes, name: str) -> None:
    """Refuse a secret that anyone could try: whoever knows it knows which patient is which.

    Args:
        key: The secret.
        name: Variable that a user sets.

    Raises:
        ConfigError: It is one of an example or a test, or follows a simple pattern.
    """
    if why := _why_known(key):
        raise ConfigError(
            f"this secret is guessable: {why}; generate another (openssl rand -hex 32). If nights were written with "
            "this one, give it as CRRG_OLD_HMAC_KEY and run crrg rekey; datasets: crrg ingest --new-secret",
            name,
        )


def _why_known(key: bytes) -> str:
    if any(word in key.lower() for word in WORDS):
        return "it contains a word or digit sequence typical of examples and tests"
    if len(set(key)) < MIN_DISTINCT_BYTES:
        return f"it has only {len(set(key))} different characters"
    if len({after - before for before, after in pairwise(key)}) == 1:
        return "its characters are sequential"
    if any(key == (key[:length] * len(key))[: len(key)] for length in range(1, len(key) // 2 + 1)):
        return "it repeats itself"
    return ""
