from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from crrg.data.deidentify import Pseudonyms, mask_text
from crrg.data.split import SplitShares, split_of
from crrg.domain.study import Split

KEY = b"k" * 32


def test_a_pseudonym_is_the_keyed_hash_of_its_domain():
    digest = hmac.new(KEY, b"patient\0site\0P-7", hashlib.sha256).digest()
    expected = base64.b32encode(digest).decode().lower()[:26]
    assert Pseudonyms(KEY).patient("P-7", "site") == expected


def test_domains_sites_and_keys_are_apart():
    pseudonyms = Pseudonyms(KEY)
    values = [
        pseudonyms.patient("1"),
        pseudonyms.study("1"),
        pseudonyms.instance("1"),
        pseudonyms.object_key("1"),
        pseudonyms.patient("1", "other"),
        Pseudonyms(b"j" * 32).patient("1"),
    ]
    assert len(set(values)) == 6
    assert KEY.decode() not in repr(pseudonyms)
    assert pseudonyms.key_id != Pseudonyms(b"j" * 32).key_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unchanged since 03/12/2019.", "Unchanged since <deid>."),
        ("Compared to 2019-03-12, stable.", "Compared to <deid>, stable."),
        ("Film of 12 March 2019.", "Film of <deid>."),
        ("Film of March 12, 2019 reviewed.", "Film of <deid> reviewed."),
        ("Called (555) 123-4567 at once.", "Called <deid> at once."),
        ("MRN: A12345 noted.", "<deid> noted."),
        ("Number 12345678.", "Number <deid>."),
        ("A 1.5 cm nodule, 3/4 of the lung, L1-2, T12.", "A 1.5 cm nodule, 3/4 of the lung, L1-2, T12."),
    ],
)
def test_dates_and_numbers_are_masked(text, expected):
    assert mask_text(text) == expected


def test_names_of_the_study_are_masked():
    text = "Discussed with Zebedee Quux; QUUX agreed. The patient is quuxotic."
    masked = mask_text(text, ["Quux^Zebedee", "Patient^Anonymous"])
    assert masked == "Discussed with <deid> <deid>; <deid> agreed. The patient is quuxotic."


def test_split_shares_are_met_and_never_change():
    splits = [split_of(f"patient{i}", 0, SplitShares()) for i in range(4000)]
    assert abs(splits.count(Split.TRAIN) / 4000 - 0.8) < 0.03
    assert abs(splits.count(Split.VALIDATION) / 4000 - 0.1) < 0.02
    assert splits == [split_of(f"patient{i}", 0, SplitShares()) for i in range(4000)]
    assert splits != [split_of(f"patient{i}", 1, SplitShares()) for i in range(4000)]
    assert split_of("patient", 0, SplitShares(train=0.0, validation=0.0)) is Split.TEST
