"""Cuts a report's text into sections, and makes the text clean first.

Knows headers, placeholders and addenda; nothing of labels or regions. A text without any header is findings.

Source: the header scheme follows the MIT-LCP section parser for MIMIC-CXR reports; rules and lists are our own.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from crrg.domain.report import Report
from crrg.domain.sentences import split_sentences
from crrg.errors import ReportError

__all__ = ["MAX_REPORT_CHARACTERS", "PLACEHOLDER", "clean_text", "parse_sections", "split_sentences"]

MAX_REPORT_CHARACTERS = 20_000
PLACEHOLDER = "<deid>"
"""What stands where a source's de-identification took a word away."""

_PLACEHOLDERS = re.compile(
    r"\[\*\*.*?\*\*\]|<(?:DATE|NAME|TIME|ID|AGE|HOSPITAL|LOCATION|PHONE|DOCTOR|deid)[^<>\n]{0,20}>|X{4,}|\bX{3}\b|_{3,}",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_CATEGORIES_TO_DROP = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})

Section = Literal["findings", "impression", "indication", "other"]

_NAMES: tuple[tuple[Section, tuple[str, ...]], ...] = (
    ("impression", ("impression", "conclusion", "opinion", "summary", "interpretation", "assessment")),
    ("findings", ("findings", "finding", "observations", "description", "report", "body of report")),
    ("indication", ("indication", "indications", "history", "clinical history", "clinical information",
                    "reason for exam", "reason for examination", "reason for study", "clinical indication")),
    ("other", ("comparison", "comparisons", "technique", "procedure", "examination", "exam", "study", "views",
               "recommendation", "recommendations", "notification", "signed", "dictated", "final report", "wet read",
               "electronically signed by", "preliminary report", "attending")),
)  # fmt: skip
_ADDENDUM = "addendum"
_SECTION_OF: dict[str, Section] = {name: section for section, names in _NAMES for name in names}
_HEADER = re.compile(r"^[ \t]*([A-Za-z][A-Za-z ()/,&-]{2,60}?)[ \t]*:[ \t]*", re.MULTILINE)
_INLINE_HEADER = re.compile(
    r"(?<=[.!?>\s])(FINDINGS?|IMPRESSION|CONCLUSION|INDICATION|COMPARISON|TECHNIQUE|HISTORY|ADDENDUM)[ \t]*:[ \t]*"
)
_VIEW_WORDS = re.compile(r"\b(?:chest|views?|frontal|lateral|pa|ap|portable|radiographs?|x-?ray)\b")


def clean_text(text: str) -> str:
    """Make a text safe to store and to cut.

    Unicode is composed (NFC), line ends become line feeds, control and direction characters go, placeholders of any
    source's de-identification become ``<deid>``, and runs of spaces one space.

    Args:
        text: Report text of any origin.

    Returns:
        The clean text; empty for an empty text.

    Raises:
        ReportError: Above 20,000 characters (``LIMIT.REPORT``).
    """
    if len(text) > MAX_REPORT_CHARACTERS:
        raise ReportError(
            f"report text has {len(text)} characters, at most {MAX_REPORT_CHARACTERS} are read: shorten or split it",
            code="LIMIT.REPORT",
        )
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n")
    text = text.replace("\t", " ").replace("\u2029", "\n\n")
    text = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in _CATEGORIES_TO_DROP)
    text = _SPACES.sub(" ", _PLACEHOLDERS.sub(PLACEHOLDER, text))
    text = "\n".join(line.strip() for line in text.split("\n"))
    return unicodedata.normalize("NFC", _BLANK_LINES.sub("\n\n", text)).strip()


def parse_sections(text: str) -> Report:
    """Cut a report into findings, impression and indication.

    Of several findings (or impressions) the last with text counts; addenda are added to the impression. A header of
    both ("FINDINGS/IMPRESSION") is an impression; a header in capitals that only names the views ("CHEST, TWO VIEWS")
    begins findings. White space inside a section becomes single spaces.

    Args:
        text: The whole report.

    Returns:
        The sections; ``None`` for a section that is missing or empty. Text without any header is findings.

    Raises:
        ReportError: Above 20,000 characters (``LIMIT.REPORT``).
    """
    clean = clean_text(text)
    sections: dict[Section, str] = {}
    addenda: list[str] = []
    for name, body in _cut(clean):
        body = " ".join(body.split())
        if not re.search(r"[^\W_]", body):
            continue
        section = _section_of(name)
        if section is None:
            addenda.append(body)
        else:
            sections[section] = body
    impression = " ".join([*filter(None, [sections.get("impression")]), *addenda]) or None
    return Report(findings=sections.get("findings"), impression=impression, indication=sections.get("indication"))


def _cut(text: str) -> list[tuple[str, str]]:
    heads = {match.start(1): match for match in _INLINE_HEADER.finditer(text)}
    heads.update({match.start(1): match for match in _HEADER.finditer(text) if _is_header(match.group(1))})
    matches = [heads[start] for start in sorted(heads)]
    if not matches:
        return [("findings", text)]
    pieces: list[tuple[str, str]] = []
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        end = following.start() if following is not None else len(text)
        pieces.append((match.group(1), text[match.end() : end]))
    before = text[: matches[0].start()]
    named = {_section_of(name) for name, _ in pieces}
    if "findings" not in named and len(split_sentences(before)) > 1:
        pieces.insert(0, ("findings", before))
    return pieces


def _is_header(name: str) -> bool:
    plain = _plain(name)
    is_shouted = name.strip().isupper() and len(plain) > 3
    is_joined = "/" in name and bool(_main_names(plain))
    return plain in _SECTION_OF or plain.startswith(_ADDENDUM) or is_shouted or is_joined


def _section_of(name: str) -> Section | None:
    """Return the section that a header begins; ``None`` for an addendum."""
    plain = _plain(name)
    if plain.startswith(_ADDENDUM):
        return None
    if plain in _SECTION_OF:
        return _SECTION_OF[plain]
    main = _main_names(plain)
    for section in ("impression", "findings", "indication"):
        if section in main:
            return section
    return "findings" if _VIEW_WORDS.search(plain) and name.strip().isupper() else "other"


def _main_names(plain: str) -> set[Section]:
    words = set(re.split(r"[^a-z]+", plain))
    return {_SECTION_OF[word] for word in words if word in _SECTION_OF and _SECTION_OF[word] != "other"}


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("(", " ").replace(")", " ").split())
