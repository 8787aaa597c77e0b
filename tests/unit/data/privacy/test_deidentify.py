from __future__ import annotations

import base64
import hashlib
import hmac

from crrg.config.base import Settings
from crrg.data.dataset.split import SplitShares, split_of
from crrg.data.privacy.deidentify import Pseudonyms, pseudonyms_of
from crrg.domain.study import Split
from tests.support.keys import KEY as RANDOM_KEY
from tests.support.keys import NEW_KEY

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


def test_settings_give_the_secret_before_where_there_is_one(tmp_path):
    (tmp_path / "old").write_text(f"{RANDOM_KEY}\n")
    for given in ({"old_hmac_key": RANDOM_KEY}, {"old_hmac_key_file": tmp_path / "old"}):
        pseudonyms = pseudonyms_of(Settings.model_validate({"hmac_key": NEW_KEY, **given}))
        assert pseudonyms.key_id == Pseudonyms(NEW_KEY.encode()).key_id
        assert pseudonyms.earlier.key_id == Pseudonyms(RANDOM_KEY.encode()).key_id
    for given in ({}, {"old_hmac_key": NEW_KEY}):
        assert pseudonyms_of(Settings.model_validate({"hmac_key": NEW_KEY, **given})).earlier is None


def test_split_shares_are_met_and_never_change():
    splits = [split_of(f"patient{i}", 0, SplitShares()) for i in range(4000)]
    assert abs(splits.count(Split.TRAIN) / 4000 - 0.8) < 0.03
    assert abs(splits.count(Split.VALIDATION) / 4000 - 0.1) < 0.02
    assert splits == [split_of(f"patient{i}", 0, SplitShares()) for i in range(4000)]
    assert splits != [split_of(f"patient{i}", 1, SplitShares()) for i in range(4000)]
    assert split_of("patient", 0, SplitShares(train=0.0, validation=0.0)) is Split.TEST


def test_what_is_no_text_has_a_pseudonym_of_its_own():
    # a file's name with bytes of another encoding, and half a character of a JSON file
    assert len({Pseudonyms(KEY).patient(value) for value in ("caf\udce9", "caf", "\ud800", "\ud801")}) == 4
