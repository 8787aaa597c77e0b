"""Values of report text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Language: TypeAlias = Literal[
    "en", "de", "fr", "es", "pt", "it", "nl", "tr", "sv", "da", "no",
    "ru", "uk", "el", "ar", "fa", "he", "hi", "th", "zh", "ja", "ko",
]  # fmt: skip
"""Languages that reports can be told to be in, ISO 639-1; the first eleven are written in Latin letters."""


@dataclass(frozen=True)
class Report:
    """Sections of a radiology report; a section that does not exist is ``None``.

    Attributes:
        findings: What is seen.
        impression: The conclusion.
        indication: Why the film was made.
    """

    findings: str | None = None
    impression: str | None = None
    indication: str | None = None

    @property
    def text(self) -> str:
        """Findings and impression joined by a space; empty where neither exists."""
        return " ".join(part for part in (self.findings, self.impression) if part)
