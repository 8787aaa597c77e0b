"""Large CSV tables (also ``.gz``) as columns of text; small ones are read row by row by ``tables``."""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection

import polars as pl

from crrg.data.archives.tables import MAX_TABLE_BYTES
from crrg.errors import DataError
from crrg.storage import Storage

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_frame(storage: Storage, key: str, required: Collection[str], optional: Collection[str] = ()) -> pl.DataFrame:
    """Read columns of a CSV table as text; empty cells are null, an optional column that is not there is all null.

    Args:
        storage: Where it lies.
        key: Its key; ``.gz`` is unpacked, up to the limit.
        required: Columns that must be there.
        optional: Columns that may be.

    Raises:
        DataError: PARSE.TABLE where it cannot be read or a column is missing, LIMIT.TABLE where it is too large.
    """
    data = _unpacked(storage.get(key)) if key.lower().endswith(".gz") else storage.get(key)
    if len(data) > MAX_TABLE_BYTES:
        raise DataError(f"the table has more than {MAX_TABLE_BYTES} bytes", code="LIMIT.TABLE")
    try:
        frame = pl.read_csv(io.BytesIO(data.removeprefix(_BYTE_ORDER_MARK)), infer_schema=False, encoding="utf8-lossy")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the table cannot be read ({type(error).__name__})", code="PARSE.TABLE") from error
    frame = frame.rename(str.strip)
    missing = sorted(set(required) - set(frame.columns))
    if missing:
        raise DataError(f"the table has no column {', '.join(missing)}", code="PARSE.TABLE")
    absent = [name for name in optional if name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in absent)
    stripped = frame.select(pl.col(name).str.strip_chars() for name in (*required, *optional))
    return stripped.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _unpacked(data: bytes) -> bytes:
    """Inflate up to just above the limit; a cut file is an error."""
    pieces: list[bytes] = []
    left = MAX_TABLE_BYTES + 1
    try:
        while data and left > 0:
            inflater = zlib.decompressobj(wbits=31)
            piece = inflater.decompress(data, left)
            if not inflater.eof and len(piece) < left:
                raise DataError("the packed table was cut; fetch it again", code="PARSE.TABLE")
            pieces.append(piece)
            left -= len(piece)
            data = inflater.unused_data
    except zlib.error as error:
        raise DataError("the packed table is damaged; fetch it again", code="PARSE.TABLE") from error
    return b"".join(pieces)
