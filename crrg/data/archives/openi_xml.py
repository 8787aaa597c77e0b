"""One report file of Open-i: its sections, codes and pictures, read without trusting it.

A report is XML from the network. A document type is refused before anything of it is read: entities, which are the way
to exhaust memory or to reach other files, are only possible there. The parser is the standard library's, told to stop.

Source: the files are those of ``NLMCXR_reports``; Demner-Fushman et al., JAMIA 2016;23(2):304-310.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

from crrg.data.archives.mesh_codes import MeshCode, read_codes
from crrg.domain.report import Report
from crrg.errors import IdentityError, ReportError

MAX_XML_BYTES = 2**20
MAX_XML_DEPTH = 64
_UID = re.compile(r"(?:CXR)?0*(\d+)", re.IGNORECASE)
_ESCAPE = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,6}|#x[0-9a-f]{1,5});", re.IGNORECASE)
_IDENTIFIERS = ("uId", "pmcId", "IUXRId")


@dataclass(frozen=True)
class OpeniReport:
    """What one file says.

    Attributes:
        uid: Number of the study in the collection.
        report: Its sections.
        codes: Codes that people gave it, in their order.
        figures: Names of its pictures, each once, in their order; may be empty.
    """

    uid: str = field(repr=False)
    report: Report = field(repr=False)
    codes: tuple[MeshCode, ...]
    figures: tuple[str, ...] = field(repr=False)


def read_openi_report(data: bytes) -> OpeniReport:
    """Read a report file.

    Args:
        data: The whole file.

    Raises:
        DataError: EMPTY.FILE, LIMIT.REPORT (too long or too deep), SECURITY.XML (a document type), PARSE.XML, or
            IDENTITY.MISSING where it has no number.
    """
    if not data.strip():
        raise ReportError("the report file is empty; fetch it again", code="EMPTY.FILE")
    if len(data) > MAX_XML_BYTES:
        raise ReportError(f"a report file of {len(data)} bytes, at most {MAX_XML_BYTES} are read", code="LIMIT.REPORT")
    reading = _Reading()
    try:
        reading.parser().Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ReportError(
            f"the report file is not well-formed XML ({type(error).__name__})", code="PARSE.XML"
        ) from error
    match = next(filter(None, (_UID.fullmatch(reading.identifiers.get(name, "")) for name in _IDENTIFIERS)), None)
    if match is None:
        raise IdentityError("the report file has no study number", code="IDENTITY.MISSING")
    return OpeniReport(
        uid=match.group(1),
        report=Report(reading.section("FINDINGS"), reading.section("IMPRESSION"), reading.section("INDICATION")),
        codes=tuple(code for text in reading.majors for code in read_codes(plain_text(text))),
        figures=tuple(dict.fromkeys(reading.figures)),
    )


class _Reading:
    """State of one pass over a file."""

    def __init__(self) -> None:
        self.identifiers: dict[str, str] = {}
        self.majors: list[str] = []
        self.figures: list[str] = []
        self._sections: dict[str, list[str]] = {}
        self._depth = 0
        self._into: list[str] | None = None
        self._opened_at = 0

    def parser(self) -> Any:
        """Return a parser that fills this state and refuses any document type."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        return parser

    def section(self, name: str) -> str | None:
        """Return a section's text, or ``None`` where it has none."""
        return plain_text("".join(self._sections.get(name, []))) or None

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_XML_DEPTH:
            raise ReportError(f"elements nested deeper than {MAX_XML_DEPTH}", code="LIMIT.REPORT")
        if tag in _IDENTIFIERS:
            self.identifiers.setdefault(tag, attributes.get("id", "").strip())
        elif tag == "parentImage":
            self.figures += [name for name in [attributes.get("id", "").strip()] if name]
        elif tag == "AbstractText":
            # parts of one section that come apart stay apart by a space
            self._open(self._sections.setdefault(attributes.get("Label", "").strip().upper(), []))
        elif tag == "major":
            self._open([])

    def _open(self, into: list[str]) -> None:
        into.append(" ")
        self._into, self._opened_at = into, self._depth

    def _text(self, text: str) -> None:
        if self._into is not None:
            self._into.append(text)

    def _end(self, tag: str) -> None:
        if self._into is not None and self._depth == self._opened_at:
            if tag == "major":
                self.majors.append("".join(self._into))
            self._into = None
        self._depth -= 1


def _refuse(*_: object) -> NoReturn:
    raise ReportError("a document type or an entity in a report file", code="SECURITY.XML")


def plain_text(text: str) -> str:
    """Return text on one line; escapes that the collection escaped once more (``&amp;lt;``) are undone."""
    return " ".join(_ESCAPE.sub(lambda match: html.unescape(match.group()), text).split())
