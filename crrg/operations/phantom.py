"""Draw a cohort: sampled studies, or pictures to fit the reports of an Open-i table."""

from __future__ import annotations

from pathlib import Path

from crrg.data.phantom.cohort import write_cohort, write_studies
from crrg.data.phantom.openi_driven import read_openi_studies
from crrg.errors import ConfigError
from crrg.local_files import check_folder

DEFAULT_SIZE = 512


def draw_phantom(
    out: str,
    num_studies: int,
    seed: int,
    size: int = DEFAULT_SIZE,
    reports: str | None = None,
    start: int = 0,
    workers: int = 1,
) -> int:
    """Write a drawn cohort (layout: ``crrg.data.phantom.cohort``).

    Args:
        out: Root URL or path to write to.
        num_studies: How many studies; with ``reports`` at most that many.
        seed: Seed of the cohort, 0 or more.
        size: Longer side of the films in pixels.
        reports: Path of an Open-i report table to draw pictures for, or ``None``.
        start: First study's number; without ``reports`` only.
        workers: Processes.

    Returns:
        How many studies were written.

    Raises:
        ConfigError: A number is out of range, the place is a file, or the table cannot be read.
        ReportError: The table is no Open-i table.
    """
    if num_studies < 0 or seed < 0 or start < 0 or size < 32:
        raise ConfigError("studies, seed and start must be 0 or more, size at least 32", "phantom")
    check_folder(out, "phantom")
    if reports is None:
        return write_cohort(out, num_studies, seed, size, start, workers)
    try:
        table = Path(reports).read_bytes()
    except OSError as error:
        raise ConfigError("the report table cannot be read; check --reports", "phantom") from error
    studies = read_openi_studies(table, num_studies, seed)
    return write_studies(out, studies, seed, size, workers)
