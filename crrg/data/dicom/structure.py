"""The outer form of a DICOM file: preamble, transfer syntax, and whether every length fits.

Runs before any DICOM library, on plain bytes, so that a damaged or hostile file is told in a single pass without
recursion or allocation. Knows no attribute but pixel data; see ``dicom.header`` for values.

Source: DICOM PS3.5 section 7 (data set encoding), PS3.10 section 7 (file format).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from crrg.data.codestream import check_trailer
from crrg.data.decoding.limits import in_force
from crrg.errors import DicomError

_INFLATED_PIECE = 2**22
_SIZE_ELEMENT = re.compile(rb"\x28\x00[\x10\x11]\x00US\x02\x00(..)", re.DOTALL)
_MAX_BYTES_PER_PIXEL = 3

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

PIXEL_GROUP = 0x7FE0
_EXECUTABLE = (
    b"MZ",
    b"\x7fELF",
    b"#!",
    b"PK",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
)
_DOCUMENTS = (b"%PDF", b"<", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
"""Beginnings of other formats that a preamble may hide; TIFF is the one the standard foresees."""
_TEXT_VRS = (b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM", b"UI")
_NUMBER_VRS = (b"AT", b"FL", b"FD", b"SL", b"SS", b"UL", b"US")
_SHORT_VRS = frozenset([*_TEXT_VRS, *_NUMBER_VRS])
_LONG_VRS = frozenset([b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"])
_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD


@dataclass
class DicomBody:
    """A data set whose lengths all fit.

    Attributes:
        data: The whole file, or the data set alone where that was deflated.
        start: Where the data set begins in it.
        is_implicit: Whether elements carry no value representation.
        is_little: Byte order.
        transfer_syntax: UID, guessed where the file does not say.
        pixel_tags: Element tags found in the pixel group, e.g. ``0x7FE00010``.
        pixel_vr: Value representation of the pixel data, empty if implicit.
        pixel_start: Offset of the pixel data's value, or -1.
        pixel_length: Bytes of a native pixel data value, or -1 where it is encapsulated or absent.
        fragments: Offset and length of each fragment of encapsulated pixel data, the offset table left out.
    """

    data: bytes
    start: int
    is_implicit: bool
    is_little: bool
    transfer_syntax: str
    pixel_tags: set[int] = field(default_factory=set)
    pixel_vr: bytes = b""
    pixel_start: int = -1
    pixel_length: int = -1
    fragments: list[tuple[int, int]] = field(default_factory=list)


def is_executable(data: bytes) -> bool:
    """Return whether a file begins like a program, a script or an archive."""
    return data.startswith(_EXECUTABLE)


def looks_like_dicom(data: bytes) -> bool:
    """Return whether a file has the DICOM mark, or begins with an element of group 0002 or 0008 without a preamble."""
    return data[128:132] == b"DICM" or data[:4] in _first_elements()


def size_refusal(num_bytes: int) -> DicomError | None:
    """Return why a file of so many bytes is not read, known before a byte of it is; ``None`` where it is."""
    most = in_force.inputs.max_file_bytes
    if num_bytes <= most:
        return None
    return DicomError(f"{num_bytes} bytes, at most {most} are read (CRRG_MAX_FILE_MIB)", code="LIMIT.FILE_SIZE")


def open_dicom(data: bytes) -> DicomBody:
    """Check a file's outer form and find its pixel data.

    Args:
        data: The whole file.

    Returns:
        The data set; nothing of it is interpreted yet.

    Raises:
        DicomError: EMPTY, SECURITY, NOT_DICOM, PARSE or LIMIT.
    """
    if not data:
        raise DicomError("the file is empty; send it again", code="EMPTY.FILE")
    if (refusal := size_refusal(len(data))) is not None:
        raise refusal
    if is_executable(data):
        raise DicomError("the preamble is that of a program, script or archive", code="SECURITY.PREAMBLE")
    if data[128:132] == b"DICM" and data.startswith(_DOCUMENTS):
        raise DicomError("the preamble is that of another format", code="SECURITY.PREAMBLE")
    if not looks_like_dicom(data):
        raise DicomError("neither a DICOM mark nor a leading DICOM element", code="NOT_DICOM.MARK")
    start, syntax = find_data_set(data)
    is_deflated = syntax == DEFLATED
    body = DicomBody(
        data=_inflate(data[start:]) if is_deflated else data,
        start=0 if is_deflated else start,
        is_implicit=syntax == IMPLICIT_LITTLE,
        is_little=syntax != EXPLICIT_BIG,
        transfer_syntax=syntax,
    )
    _Walk(body).run()
    return body


def _first_elements() -> frozenset[bytes]:
    return frozenset(
        group + element
        for group, elements in ((b"\x08\x00", (0x00, 0x01, 0x05, 0x08, 0x12, 0x16, 0x18)), (b"\x02\x00", (0x00, 0x01)))
        for element in (bytes([low, 0]) for low in elements)
    )


def find_data_set(data: bytes) -> tuple[int, str]:
    """Return where the data set begins and its transfer syntax UID, guessed where the file does not say.

    Args:
        data: A file that looks like DICOM, or its beginning.

    Raises:
        DicomError: PARSE where the file meta header makes no sense or does not end.
    """
    start, syntax = _read_file_meta(data, 132 if data[128:132] == b"DICM" else 0)
    if not syntax:
        syntax = EXPLICIT_LITTLE if data[start + 4 : start + 6] in _SHORT_VRS | _LONG_VRS else IMPLICIT_LITTLE
    return start, syntax


def _read_file_meta(data: bytes, start: int) -> tuple[int, str]:
    """Return where the data set begins and the transfer syntax UID, empty where none is given."""
    syntax = ""
    position = start
    while data[position : position + 2] == b"\x02\x00":
        vr = data[position + 4 : position + 6]
        if vr in _LONG_VRS:
            length, header = int.from_bytes(data[position + 8 : position + 12], "little"), 12
        elif vr in _SHORT_VRS:
            length, header = int.from_bytes(data[position + 6 : position + 8], "little"), 8
        else:
            raise DicomError("the file meta header holds an unknown value representation", code="PARSE.FILE_META")
        end = position + header + length
        if end > len(data):
            raise DicomError("the file ends inside its file meta header", code="PARSE.TRUNCATED")
        if data[position + 2 : position + 4] == b"\x10\x00":
            syntax = data[position + header : end].rstrip(b"\0 ").decode("ascii", "replace")
        position = end
    return position, syntax


def _inflate(raw: bytes) -> bytes:
    """Inflate a deflated data set piece by piece, never beyond what its own header lets expect."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = bytearray()
    limit = in_force.inputs.max_inflated_bytes
    try:
        while not inflater.eof:
            piece = inflater.decompress(raw, _INFLATED_PIECE)
            out += piece
            if len(out) == len(piece):
                limit = min(limit, _expected_bytes(piece))
            if len(out) > limit:
                raise DicomError(f"inflates beyond {limit} bytes", code="LIMIT.INFLATED")
            if not piece and not inflater.unconsumed_tail:
                raise DicomError("the deflated data set ends early", code="PARSE.TRUNCATED")
            raw = inflater.unconsumed_tail
    except zlib.error as error:
        raise DicomError("the deflated data set is damaged", code="PARSE.DEFLATE") from error
    return bytes(out)


def _expected_bytes(head: bytes) -> int:
    """Return a generous size for the data set that begins like this; sizes inside sequences may make it larger."""
    sizes = [int.from_bytes(match, "little") for match in _SIZE_ELEMENT.findall(head)]
    return _MAX_BYTES_PER_PIXEL * max(sizes, default=65535) ** 2 + 2**24


@dataclass
class _Level:
    """A container being walked: a data set, an item or a sequence.

    ``end`` is -1 where its length is undefined; ``fragments`` collects those of encapsulated pixel data.
    """

    is_sequence: bool
    end: int
    is_implicit: bool
    fragments: list[tuple[int, int]] | None = None


class _Walk:
    """One pass over all element headers, values skipped."""

    def __init__(self, body: DicomBody) -> None:
        self.body = body
        self.data = body.data
        self.order: str = "little" if body.is_little else "big"
        self.position = body.start
        self.num_elements = 0
        self.limits = in_force.inputs
        self.levels = [_Level(is_sequence=False, end=len(body.data), is_implicit=body.is_implicit)]

    def run(self) -> None:
        while self.levels:
            level = self.levels[-1]
            if level.end >= 0 and self.position >= level.end:
                self.levels.pop()
            elif len(self.levels) == 1 and self._is_tail():
                return
            else:
                self._element(level)

    def _element(self, level: _Level) -> None:
        tag = self._tag()
        self.num_elements += 1
        if self.num_elements > self.limits.max_elements:
            raise DicomError(
                f"more than {self.limits.max_elements} elements (CRRG_MAX_ELEMENTS)", code="LIMIT.ELEMENTS"
            )
        if tag in (_ITEM, _ITEM_END, _SEQUENCE_END):
            self._delimiter(level, tag)
            return
        if level.is_sequence:
            raise DicomError("a sequence contains something other than items", code="PARSE.SEQUENCE")
        vr, length, is_implicit = self._length(level)
        if tag >> 16 == PIXEL_GROUP and len(self.levels) == 1:
            self._pixels(tag, vr, length)
        is_pixels = tag >> 16 == PIXEL_GROUP
        if length == _UNDEFINED:
            fragments = None if not is_pixels else self.body.fragments if len(self.levels) == 1 else []
            self._open(_Level(True, -1, is_implicit or vr == b"UN", fragments))
            return
        self._check_fits(length)
        has_items = vr == b"SQ" or (
            not is_pixels and vr in (b"", b"UN") and length >= 8 and self._peek_tag(vr == b"UN") == _ITEM
        )
        if has_items and length:
            self._open(_Level(True, self.position + length, is_implicit or vr == b"UN"))
        else:
            self.position += length

    def _delimiter(self, level: _Level, tag: int) -> None:
        length = self._number(4)
        if tag == _ITEM and level.is_sequence:
            if level.fragments is not None:
                self._check_fits(length)
                level.fragments.append((self.position, length))
                self.position += length
            elif length == _UNDEFINED:
                self._open(_Level(False, -1, level.is_implicit))
            else:
                self._check_fits(length)
                self._open(_Level(False, self.position + length, level.is_implicit))
            return
        closes = (tag == _SEQUENCE_END and level.is_sequence) or (tag == _ITEM_END and not level.is_sequence)
        if not closes or len(self.levels) == 1:
            raise DicomError("a delimiter is misplaced", code="PARSE.SEQUENCE")
        if level.fragments is not None:
            del level.fragments[:1]
        self.levels.pop()

    def _pixels(self, tag: int, vr: bytes, length: int) -> None:
        self.body.pixel_tags.add(tag)
        if tag == 0x7FE00010:
            self.body.pixel_vr = vr
            self.body.pixel_start = self.position
            self.body.pixel_length = -1 if length == _UNDEFINED else length

    def _open(self, level: _Level) -> None:
        self.levels.append(level)
        if len(self.levels) > 2 * self.limits.max_depth:
            raise DicomError(
                f"sequences are nested deeper than {self.limits.max_depth} (CRRG_MAX_SEQUENCE_DEPTH)",
                code="LIMIT.DEPTH",
            )

    def _length(self, level: _Level) -> tuple[bytes, int, bool]:
        """Read the rest of an element header: value representation (empty if implicit), length, encoding inside."""
        if level.is_implicit:
            return b"", self._number(4), True
        vr = self._take(2)
        if vr in _SHORT_VRS:
            return vr, self._number(2), False
        if vr not in _LONG_VRS:
            raise DicomError("an element has an unknown value representation", code="PARSE.VR")
        self._take(2)
        return vr, self._number(4), False

    def _is_tail(self) -> bool:
        """Return whether what follows pixel data is padding; refuse anything hidden there."""
        if not self.body.pixel_tags:
            return False
        tail = self.data[self.position : self.position + 4]
        if self._peek_tag(False) < 0x7FE00000 or len(tail) < 4:
            check_trailer(self.data[self.position :])
        if self._peek_tag(False) >= 0x7FE00000 and len(tail) == 4:
            return False
        if self.data.count(b"\0", self.position) == len(self.data) - self.position:
            return True
        raise DicomError("the bytes after the pixel data are not an element", code="PARSE.TRAILER")

    def _check_fits(self, length: int) -> None:
        end = self.levels[-1].end
        if self.position + length > (end if end >= 0 else len(self.data)):
            raise DicomError(f"an element of {length} bytes ends beyond the file or its item", code="PARSE.TRUNCATED")

    def _tag(self) -> int:
        return self._number(2) << 16 | self._number(2)

    def _peek_tag(self, as_little: bool) -> int:
        order = "little" if as_little else self.order
        head = self.data[self.position : self.position + 4]
        return int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:], order)  # type: ignore[arg-type]

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), self.order)  # type: ignore[arg-type]

    def _take(self, size: int) -> bytes:
        taken = self.data[self.position : self.position + size]
        if len(taken) < size:
            raise DicomError("the file ends inside an element header", code="PARSE.TRUNCATED")
        self.position += size
        return taken
