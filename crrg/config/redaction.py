"""One filter over every log line of this process: what is a secret leaves as asterisks.

A secret becomes known where it is read (``Settings``), and the filter stands from then on. It works where records are
made, hence below every logger and handler, those of Prefect and MLflow included; tracebacks pass it as well. Forms that
are secrets wherever they stand, such as passwords in addresses and signatures of requests, are masked too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from threading import Lock
from urllib.parse import quote

MASK = "**********"
MIN_SECRET_CHARACTERS = 8
"""A shorter word would be masked in the middle of others."""
_FORMS = (
    (re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"), MASK),
    (re.compile(r"(?i)(\b(?:X-Amz-)?(?:Signature|Security-Token|Credential)=)[^&\s,\"']+"), rf"\1{MASK}"),
    (re.compile(r"(?i)(\bAuthorization\b[\"']?\s*[:=]\s*[\"']?)(?:(?:Basic|Bearer)\s+)?[^\s,\"']+"), rf"\1{MASK}"),
)

RecordFactory = Callable[..., logging.LogRecord]


class Redactor:
    """Knows secrets and masks them in texts and log records."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._secrets: frozenset[str] = frozenset()
        self._adding = Lock()

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, as they stand and percent-encoded; empty and very short ones are left out."""
        wanted = {
            form for each in secrets for form in (each, quote(each, safe="")) if len(each) >= MIN_SECRET_CHARACTERS
        }
        with self._adding:
            if not wanted <= self._secrets:
                self._secrets |= wanted

    def mask(self, text: str) -> str:
        """Return a text with every secret replaced by asterisks."""
        if secrets := self._secrets:
            text = _pattern_of(secrets).sub(MASK, text)
        for form, masked in _FORMS:
            text = form.sub(masked, text)
        return text

    def clean(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a log record whose message, traceback and stack hold no secret; others keep their arguments."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):
            said = f"{record.msg} {record.args}"
        if (masked := self.mask(said)) != said:
            record.msg, record.args = masked, None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = self.mask(logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = self.mask(record.stack_info)
        return record


@lru_cache(maxsize=1)
def _pattern_of(secrets: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(secrets, key=len, reverse=True))))


_redactor = Redactor()


def keep_out_of_logs(secrets: Iterable[str]) -> None:
    """Mask these secrets in everything that this process logs from now on; calling it again adds to them."""
    _redactor.add(secrets)
    below = logging.getLogRecordFactory()
    if not getattr(below, "masks_secrets", False):
        logging.setLogRecordFactory(_masking(below))


def _masking(below: RecordFactory) -> RecordFactory:
    def make(*args: object, **kwargs: object) -> logging.LogRecord:
        return _redactor.clean(below(*args, **kwargs))

    make.masks_secrets = True  # type: ignore[attr-defined]
    return make
