"""Days and time zones as people write them: of a night, of the audit, of delivered documents."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field

from crrg.errors import ConfigError

_WAY_OUT = "write it like 2026-11-09"


def check_date(text: str, setting: str) -> str:
    """Return a day as it was written, ``YYYY-MM-DD``; empty stays empty.

    Args:
        text: What was written.
        setting: Where it was written, for the message.

    Raises:
        ConfigError: The calendar has no such day, or it is written otherwise.
    """
    if text and not _is_day(text):
        raise ConfigError(f"{text!r} is not a date; {_WAY_OUT}", setting)
    return text


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_field(value: Any) -> Any:
    """Refuse what is no day before the pattern does, which would only show itself."""
    if isinstance(value, str) and value and not _is_day(value):
        raise ValueError(f"{value!r} is not a date; {_WAY_OUT}")
    return value


OptionalDate = Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$"), BeforeValidator(_check_field)]
"""A day of a form, ``YYYY-MM-DD``, or empty."""


def _check_zone(value: str) -> str:
    if value:
        try:
            ZoneInfo(value)
        except (
            ZoneInfoNotFoundError,
            ValueError,
            OSError,
        ):  # a folder of zones, such as Europe, is an error of its own
            raise ValueError("not a time zone; write it like Europe/Berlin") from None
    return value


OptionalZone = Annotated[str, AfterValidator(_check_zone)]
"""A time zone of a form, such as ``Europe/Berlin``, or empty."""
