"""One number over committed results (``crrg digest``), to compare two roots or two runs of a night."""

from __future__ import annotations

from crrg.config.dates import check_date
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.ledger.digest import results_digest
from crrg.storage import Storage


def committed_digest(storage: Storage, date: str = "") -> str:
    """Return the digest over the committed results of a night, or of all nights.

    Args:
        storage: The root.
        date: The night, ``YYYY-MM-DD``; empty takes all.

    Returns:
        Hex sha256 without paths, run ids and times; a root without nights has a digest too.

    Raises:
        ConfigError: There is no such day.
    """
    return results_digest(storage, REPORTS_SCHEMA, REGIONS_SCHEMA, check_date(date, "date"))
