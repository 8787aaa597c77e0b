"""Cuts a report's text into sections, and makes the text clean first.

Knows headers, placeholders and addenda; nothing of labels or regions. A text without any header is findings. Two
modes: the general one reads what hospitals write, ``compatible`` cuts as published work does (``sections_compatible``).

Source: the header scheme follows the MIT-LCP section parser for MIMIC-CXR reports; rules and lists are our own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from crrg.data.decoding.limits import in_force
from crrg.data.reports.sections_compatible import cut_compatible
from crrg.domain.report import Report
from crrg.domain.sentences import split_sentences
from crrg.errors import ReportError

__all__ = [
    "Mode",
    "PLACEHOLDER",
    "Sections",
    "clean_text",
    "cut_report",
    "parse_sections",
    "split_sentences",
]

PLACEHOLDER = "<deid>"
"""What stands where a source's de-identification took a word away."""

_PLACEHOLDERS = re.compile(
    r"\[\*\*.*?\*\*\]|<(?:DATE|NAME|TIME|ID|AGE|HOSPITAL|LOCATION|PHONE|DOCTOR|deid)[^<>\n]{0,20}>|X{4,}|\bX{3}\b|_{3,}",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_CATEGORIES_TO_DROP = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})

Section = Literal["findings", "impression", "indication", "comparison", "wet read", "other"]
Mode: TypeAlias = Literal["general", "compatible"]
"""How whole reports are cut: ``compatible`` where texts are to be compared with published ones."""


@dataclass(frozen=True)
class Sections:
    """All sections of a report; white space inside a section is single spaces.

    Attributes:
        findings: What is seen; ``None`` for a section that is missing or empty, here and below.
        impression: The conclusion, without addenda.
        indication: Why the film was made.
        comparison: What it was compared with.
        addenda: What was added later, in the order of the text.
    """

    findings: str | None = None
    impression: str | None = None
    indication: str | None = None
    comparison: str | None = None
    addenda: tuple[str, ...] = ()


_NAMES: tuple[tuple[Section, tuple[str, ...]], ...] = (
    ("impression", ("impression", "impressions", "conclusion", "conclusions", "opinion", "summary", "interpretation",
                    "assessment")),
    ("findings", ("findings", "finding", "observations", "description", "report", "body of report")),
    ("indication", ("indication", "indications", "history", "clinical history", "clinical information",
                    "reason for exam", "reason for examination", "reason for study", "clinical indication")),
    ("comparison", ("comparison", "comparisons", "comparison studies", "prior studies")),
    ("wet read", ("wet read", "preliminary report", "preliminary read")),
    ("other", ("technique", "procedure", "examination", "exam", "study", "views",
               "recommendation", "recommendations", "notification", "signed", "dictated", "final report",
               "electronically signed by", "attending")),
)  # fmt: skip
_ADDENDUM = "addendum"
_SECTION_OF: dict[str, Section] = {name: section for section, names in _NAMES for name in names}
_HEADER = re.compile(r"^[ \t]*([A-Za-z][A-Za-z ()/,&-]{2,60}?(?: \d{1,2})?)[ \t]*:[ \t]*", re.MULTILINE)
_COMPATIBLE_NAMES = frozenset({"findings", "impression", "indication", "comparison"})
_INLINE_NAMES = ("findings", "finding", "impression", "conclusion", "indication", "comparison", "technique", "history",
                 "addendum", "wet read")  # fmt: skip
_INLINE_HEADER = re.compile(
    rf"(?<=[.!?>\s])({'|'.join(name.upper() for name in _INLINE_NAMES)})[ \t]*:[ \t]*"
    rf"|(?<=[.!?>][ \t])({'|'.join(name.capitalize() for name in _INLINE_NAMES)})[ \t]*:[ \t]*"
)
_LOOSE_NAMES = ("findings and impression", "findings", "impressions?", "conclusions?", "indications?", "comparisons?",
                "technique", "clinical history", "history", "addendum(?: \\d{1,2})?", "wet read")  # fmt: skip
_LOOSE_HEADER = re.compile(
    rf"^[ \t]*\|?[ \t]*(?P<name>{'|'.join(_LOOSE_NAMES)})[ \t]*(?:\|[ \t]*|[-\u2013\u2014]+[ \t]+|$)",
    re.IGNORECASE | re.MULTILINE,
)
"""A header without colon: alone in its line, or before a pipe or a dash."""

_BOILERPLATE = re.compile(
    r"^\W*(?:final report|end of (?:report|impression|addendum)|preliminary report|final)\W*$"
    r"|^\W*(?:dictated|signed|electronically signed|transcribed|approved|reviewed|verified) (?:and \w+ )?by\b.*$"
    r"|^\W*i,? (?:the (?:teaching|attending) \w+|the undersigned|have personally)\b.*$"
    r"|^\W*wet read version\b.*$|^[-=*_|\s]{3,}$",
    re.IGNORECASE | re.MULTILINE,
)
"""Lines that say nothing of the film."""

_ORGANS = frozenset(
    ("lungs", "lung", "heart", "pleura", "mediastinum", "bones", "bone", "soft tissues", "tubes", "lines",
     "lines and tubes", "support devices", "cardiomediastinal silhouette", "heart and mediastinum", "lungs and pleura",
     "upper abdomen", "abdomen", "osseous structures", "airways", "diaphragm", "hila", "other", "note")
)  # fmt: skip
"""Words that begin a line inside the findings of a structured report, in capitals or not."""
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
        ReportError: Longer than the limit in force (``LIMIT.REPORT``).
    """
    most = in_force.inputs.max_report_characters
    if len(text) > most:
        raise ReportError(
            f"report text has {len(text)} characters, at most {most} are read (CRRG_MAX_REPORT_CHARACTERS): shorten "
            "or split it",
            code="LIMIT.REPORT",
        )
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n")
    text = text.replace("\t", " ").replace("\u2029", "\n\n")
    text = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in _CATEGORIES_TO_DROP)
    text = _SPACES.sub(" ", _PLACEHOLDERS.sub(PLACEHOLDER, text))
    text = "\n".join(line.strip() for line in text.split("\n"))
    return unicodedata.normalize("NFC", _BLANK_LINES.sub("\n\n", text)).strip()


def parse_sections(text: str, mode: Mode = "general") -> Report:
    """Cut a report into findings, impression and indication.

    Of several findings (or impressions) the last with text counts; addenda are added to the impression. A header of
    both ("FINDINGS/IMPRESSION") is an impression; a header in capitals that only names the views ("CHEST, TWO VIEWS")
    begins findings. White space inside a section becomes single spaces.

    Args:
        text: The whole report.
        mode: ``general``, or ``compatible`` to cut as the published parser for MIMIC-CXR does.

    Returns:
        The sections; ``None`` for a section that is missing or empty. Text without any header is findings (in the
        compatible mode nothing).

    Raises:
        ReportError: Longer than the limit in force (``LIMIT.REPORT``).
    """
    cut = cut_report(text, mode)
    impression = " ".join([*filter(None, [cut.impression]), *cut.addenda]) or None
    return Report(findings=cut.findings, impression=impression, indication=cut.indication)


def cut_report(text: str, mode: Mode = "general") -> Sections:
    """Cut a report into all its sections; see ``parse_sections``.

    A wet read stands for the findings only where the report has neither findings nor impression.

    Raises:
        ReportError: Longer than the limit in force (``LIMIT.REPORT``).
    """
    if mode == "compatible":
        clean_text(text)
        last = {name: clean_text(body) for name, body in cut_compatible(text)}
        return _collect((name, body) for name, body in last.items() if name in _COMPATIBLE_NAMES)
    clean = _LOOSE_HEADER.sub(lambda match: f"{match['name']}: ", clean_text(text))
    pieces = [(name, _BOILERPLATE.sub("", body)) for name, body in _cut(_BOILERPLATE.sub("", clean))]
    return _collect((_section_of(name) or _ADDENDUM, " ".join(body.replace("|", " ").split())) for name, body in pieces)


def _collect(pieces: Iterable[tuple[str, str]]) -> Sections:
    """Keep the last piece of each section that has text, and every addendum."""
    sections: dict[str, str] = {}
    addenda: list[str] = []
    for section, body in pieces:
        if not re.search(r"[^\W_]", body):
            continue
        if section == _ADDENDUM:
            addenda.append(body)
        else:
            sections[section] = body
    if "findings" not in sections and "impression" not in sections and "wet read" in sections:
        sections["findings"] = sections["wet read"]
    return Sections(
        findings=sections.get("findings"),
        impression=sections.get("impression"),
        indication=sections.get("indication"),
        comparison=sections.get("comparison"),
        addenda=tuple(addenda),
    )


def _cut(text: str) -> list[tuple[str, str]]:
    heads = {match.start(match.lastindex or 0): match for match in _INLINE_HEADER.finditer(text)}
    heads.update({match.start(1): match for match in _HEADER.finditer(text) if _is_header(match.group(1))})
    matches = [heads[start] for start in sorted(heads)]
    if not matches:
        return [("findings", text)]
    pieces: list[tuple[str, str]] = []
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        end = following.start() if following is not None else len(text)
        pieces.append((match.group(match.lastindex or 0), text[match.end() : end]))
    before = text[: matches[0].start()]
    named = {_section_of(name) for name, _ in pieces}
    if "findings" not in named and len(split_sentences(before)) > 1:
        pieces.insert(0, ("findings", before))
    return pieces


def _is_header(name: str) -> bool:
    plain = _plain(name)
    is_shouted = name.strip().isupper() and len(plain) > 3 and plain not in _ORGANS
    is_joined = bool(re.search(r"/| and | & ", name)) and bool(_main_names(plain)) and len(plain.split()) <= 3
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
