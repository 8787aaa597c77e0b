"""A bucket that keeps old versions is told of; a folder keeps none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from crrg.operations.privacy.versioned import kept_versions
from crrg.storage import Storage


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"Status": "Enabled"}, "can still be read"),
        ({"Status": "Suspended"}, "can still be read"),
        (PermissionError(), "could not be asked"),
        ({}, ""),
    ],
)
def test_what_the_bucket_says_is_said_with_the_way_out(monkeypatch, answer, said):
    asked = []

    def call_s3(operation, **options):
        asked.append((operation, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Storage, "filesystem", SimpleNamespace(call_s3=call_s3))
    told = kept_versions({"root": Storage("s3://bucket/deep/root")})
    assert asked == [("get_bucket_versioning", {"Bucket": "bucket"})]
    assert [said in each and "NoncurrentVersionExpiration" in each for each in told] == [True] * bool(said)


def test_a_folder_keeps_no_versions(tmp_path):
    assert kept_versions({"root": Storage(str(tmp_path)), "identified zone": Storage("file:///z")}) == ()
