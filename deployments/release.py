"""Build what a release consists of, so that anyone gets the same bytes from the same commit (``make release``).

A wheel of the commit's own files, whatever lies beside them in the working tree; the bill of materials of the locked
environment; and the digests of both. The wheel is built twice from two exports and refused where the two differ. Knows
nothing of the library.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deployments.audit import write_bill
from deployments.services import CHECKOUT

logger = logging.getLogger(__name__)

BILL = "sbom.cdx.json"
DIGESTS = "SHA256SUMS"
FILE_MASK = 0o022
"""Of the files in a wheel, whoever builds it: their modes are a part of it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build wheel, bill of materials and digests of a commit.

    Returns:
        0 where two builds gave the same bytes, else 1.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="make release", description=main.__doc__)
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "dist")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    name, data = build_wheel(options.commit)
    if build_wheel(options.commit) != (name, data):
        logger.error("release: two builds of %s differ; nothing was written", options.commit)
        return 1
    (options.out / name).write_bytes(data)
    write_bill(options.out / BILL)
    sums = {each: hashlib.sha256((options.out / each).read_bytes()).hexdigest() for each in (name, BILL)}
    (options.out / DIGESTS).write_text("".join(f"{digest}  {each}\n" for each, digest in sums.items()))
    logger.info("release: %s, %s and %s in %s", name, BILL, DIGESTS, options.out)
    return 0


def build_wheel(commit: str) -> tuple[str, bytes]:
    """Return name and bytes of the wheel of a commit of this checkout.

    Args:
        commit: As git takes it.

    Raises:
        subprocess.CalledProcessError: There is no such commit, or it cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="crrg-release-") as folder:
        source, wheels = Path(folder, "source"), Path(folder, "wheels")
        source.mkdir()
        archive = _git("archive", "--format=tar", commit)
        subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True, umask=FILE_MASK)
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
        subprocess.run(
            [*pip, "--disable-pip-version-check", "--wheel-dir", str(wheels), str(source)],
            check=True,
            umask=FILE_MASK,
            env={**os.environ, "SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct", commit).decode().strip()},
        )
        (wheel,) = wheels.iterdir()
        return wheel.name, wheel.read_bytes()


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(CHECKOUT), *arguments], check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    sys.exit(main())
