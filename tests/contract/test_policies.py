"""The shipped policies: readable, filled in completely, and without rights that nobody needs."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from deployments.identities import BUCKET, FOLDER, IDENTITIES, main, policy

PLACES = {
    "root": "s3://r/data",
    "source": "s3://s",
    "inbox": "s3://i/in/",
    "identified": "s3://d/drafts",
    "backup": "s3://b/root",
}
MAY_DELETE = {"gc", "retention", "forget", "backup"}


def statements(name: str, **options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = policy(name, PLACES, **options)["Statement"]
    return found


def test_there_is_one_policy_per_identity_and_one_of_the_bucket() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*IDENTITIES, BUCKET}


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_policy_names_actions_and_prefixes_and_nothing_wild(name: str) -> None:
    for each in statements(name, kms_key="arn:aws:kms:z:0:key/1", identified_kms_key="arn:aws:kms:z:0:key/2"):
        assert each["Effect"] == "Allow"
        assert not [action for action in each["Action"] if "*" in action]
        assert "{" not in json.dumps(each["Resource"])
        assert "*" not in each["Resource"]
        if "s3:ListBucket" in each["Action"]:
            assert each["Condition"]["StringLike"]["s3:prefix"]
    actions = {action for each in statements(name) for action in each["Action"]}
    assert ("s3:DeleteObject" in actions) == (name in MAY_DELETE)
    assert not any(action.startswith("kms:") for action in actions)


def allowed(name: str, action: str, resource: str) -> bool:
    """Return whether an identity may do something to an object or bucket."""
    return any(
        action in each["Action"] and any(fnmatchcase(resource, pattern) for pattern in each["Resource"])
        for each in statements(name)
    )


def test_only_deliver_and_forget_reach_the_identified_zone() -> None:
    touching = {
        name
        for name in IDENTITIES
        for each in statements(name)
        if any(resource.startswith("arn:aws:s3:::d") for resource in each["Resource"])
    }
    assert touching == {"deliver", "forget"}
    document = "arn:aws:s3:::d/drafts/2.25.1/report.dcm"
    expected = {
        "s3:GetObject": {"deliver", "forget"},
        "s3:PutObject": {"deliver"},
        "s3:DeleteObject": {"forget"},
    }
    for action, names in expected.items():
        assert {name for name in IDENTITIES if allowed(name, action, document)} == names, action


def test_the_audit_can_be_deleted_by_nobody() -> None:
    assert not [name for name in IDENTITIES if allowed(name, "s3:DeleteObject", "arn:aws:s3:::r/data/audit/1.json")]
    staged = "arn:aws:s3:::r/data/staging/ingest/x/1.parquet"
    assert "gc" in {name for name in IDENTITIES if allowed(name, "s3:DeleteObject", staged)}


def test_only_deliver_and_forget_use_the_key_of_the_identified_zone_and_forget_writes_nothing_with_it() -> None:
    own = "arn:aws:kms:z:0:key/2"
    used = {
        name: [each["Action"] for each in statements(name, identified_kms_key=own) if own in each["Resource"]]
        for name in IDENTITIES
    }
    assert {name: actions for name, actions in used.items() if actions} == {
        "deliver": [["kms:Decrypt", "kms:GenerateDataKey"]], "forget": [["kms:Decrypt"]],
    }  # fmt: skip
    assert main(["deliver", *(f"--{place}={url}" for place, url in PLACES.items()), f"--identified-kms-key={own}"]) == 0


def test_forget_reads_models_and_writes_none_but_what_it_drafts_anew() -> None:
    folders = {
        "models/bundles/b/bundle.json",
        "models/aliases/champion.json",
        "models/references/r",
        "checkpoints/clip/c",
    }
    for action in ("s3:DeleteObject", "s3:PutObject"):
        assert not [key for key in folders if allowed("forget", action, f"arn:aws:s3:::r/data/{key}")]
        assert allowed("forget", action, "arn:aws:s3:::r/data/models/drafts/b/d-1-x/part-00000.parquet")
    assert all(allowed("forget", "s3:GetObject", f"arn:aws:s3:::r/data/{key}") for key in folders)
    for key in ("staging/ingest/d/1.parquet", "spool/runs/1.json"):
        assert allowed("forget", "s3:DeleteObject", f"arn:aws:s3:::r/data/{key}")
        assert not allowed("forget", "s3:PutObject", f"arn:aws:s3:::r/data/{key}")


def test_gc_writes_its_entry_and_asks_for_the_time_and_holds_no_night() -> None:
    assert allowed("gc", "s3:PutObject", "arn:aws:s3:::r/data/leases/clock/1")
    assert not allowed("gc", "s3:PutObject", "arn:aws:s3:::r/data/leases/date=2026-11-20/1.json")


def test_who_verifies_the_audit_writes_nothing_and_who_asks_for_a_source_its_entry_alone() -> None:
    written = {
        name: {
            resource for each in statements(name) if "s3:PutObject" in each["Action"] for resource in each["Resource"]
        }
        for name in ("auditor", "reidentify")
    }
    assert written == {"auditor": set(), "reidentify": {"arn:aws:s3:::r/data/audit", "arn:aws:s3:::r/data/audit/*"}}
    assert allowed("auditor", "s3:GetObject", "arn:aws:s3:::r/data/audit/00000001.json")
    for place in ("i/in/film.dcm", "s/film.dcm"):
        assert allowed("reidentify", "s3:GetObject", f"arn:aws:s3:::{place}")
        assert not allowed("auditor", "s3:GetObject", f"arn:aws:s3:::{place}")


def test_forget_needs_no_inbox() -> None:
    assert policy("forget", {place: url for place, url in PLACES.items() if place != "inbox"})


def test_a_backup_deletes_in_its_own_place_alone_and_a_restore_nowhere() -> None:
    deletes = [each["Resource"] for each in statements("backup") if "s3:DeleteObject" in each["Action"]]
    assert deletes == [["arn:aws:s3:::b/root", "arn:aws:s3:::b/root/*"]]
    for name in IDENTITIES:
        reaches = any("arn:aws:s3:::b/root/*" in each["Resource"] for each in statements(name))
        assert reaches == (name in ("backup", "restore"))


def test_places_are_filled_in(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [each for each in statements("nightly") if each["Sid"] == "ListInbox"]
    assert listed[0]["Resource"] == ["arn:aws:s3:::i"]
    assert listed[0]["Condition"] == {"StringLike": {"s3:prefix": ["in/*"]}}
    assert main(["reviewer", "--root", "s3://r"]) == 0
    assert "arn:aws:s3:::r/results/*" in capsys.readouterr().out


def test_a_place_that_is_missing_or_no_bucket_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inbox"):
        policy("nightly", {"root": "s3://r"})
    with pytest.raises(ValueError, match="s3://"):
        policy("reviewer", {"root": "/somewhere"})
    with pytest.raises(SystemExit) as ended:
        main(["deliver", "--root", "s3://r"])
    assert ended.value.code == 2
    assert "identified" in capsys.readouterr().err


def test_the_bucket_refuses_what_is_not_encrypted_or_not_over_tls() -> None:
    found = {each["Sid"]: each for each in statements(BUCKET, kms_key="arn:aws:kms:z:0:key/1")}
    assert all(each["Effect"] == "Deny" and each["Principal"] == "*" for each in found.values())
    assert found["OnlyOverTls"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert found["NothingUnencrypted"]["Condition"] == {"Null": {"s3:x-amz-server-side-encryption": "true"}}
    (values,) = found["OnlyThisWay"]["Condition"].values()
    assert values == {"s3:x-amz-server-side-encryption": "aws:kms"}
    assert "OnlyWithThisKey" not in {each["Sid"] for each in statements(BUCKET)}
