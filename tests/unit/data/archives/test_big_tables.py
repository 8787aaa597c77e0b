from __future__ import annotations

import gzip

import pytest

from crrg.data.archives import big_tables
from crrg.data.archives.big_tables import read_frame
from crrg.errors import DataError
from crrg.storage import Storage

TEXT = "a, b ,c\n1,x,\n 2 ,,y\n"


def read(tmp_path, data: bytes, key: str = "t.csv", **columns):
    (tmp_path / key).write_bytes(data)
    return read_frame(Storage(str(tmp_path)), key, **{"required": ("a",), **columns})


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_cells_are_text_without_spaces_around_and_blank_is_nothing(tmp_path, start):
    frame = read(tmp_path, start + TEXT.encode(), optional=("b", "c", "d"))
    assert frame.rows() == [("1", "x", None, None), ("2", None, "y", None)]


def test_a_packed_table_in_several_pieces_is_one_table(tmp_path):
    data = gzip.compress(TEXT[:8].encode()) + gzip.compress(TEXT[8:].encode())
    assert read(tmp_path, data, "t.csv.gz")["a"].to_list() == ["1", "2"]


def test_quoted_cells_may_hold_commas_and_line_breaks(tmp_path):
    assert read(tmp_path, b'a,b\n"1,\n2",3\n')["a"].to_list() == ["1,\n2"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_that_grows_beyond_the_limit_is_refused(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(big_tables, "MAX_TABLE_BYTES", 1000)
    data = b"a\n" + b"1\n" * 100_000
    with pytest.raises(DataError) as caught:
        read(tmp_path, gzip.compress(data) if packed else data, "t.csv.gz" if packed else "t.csv")
    assert caught.value.code == "LIMIT.TABLE"


@pytest.mark.parametrize("data", [b"", b"b\n1\n", b'a,b\n"1\n'])
def test_a_table_that_is_none_or_lacks_a_column_is_refused(tmp_path, data):
    with pytest.raises(DataError) as caught:
        read(tmp_path, data)
    assert caught.value.code == "PARSE.TABLE"
