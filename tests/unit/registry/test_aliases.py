from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from crrg.config.base import Settings
from crrg.config.references import BundleRef
from crrg.errors import ModelError, StorageError
from crrg.registry import aliases
from crrg.registry.aliases import record_alias, recorded_alias, resolve_bundle
from crrg.storage import Storage

CHAMPION = "models:/crrg-pipeline@champion"
TAGS = {"bundle_id": "b3", "bundle_prefix": "models/bundles/b3", "gate": "passed"}


class StandInRegistry:
    """Says what a registry would say."""

    known: ClassVar[dict[str, str]] = {}
    tags: ClassVar[dict[str, str]] = {}
    is_away: ClassVar[bool] = False

    def __init__(self, settings: Settings, storage: Storage) -> None:
        pass

    def exists(self) -> bool:
        return True

    def aliases(self) -> dict[str, str]:
        if self.is_away:
            raise StorageError("away", retryable=True)
        return self.known

    def version_tags(self, version: str) -> dict[str, str]:
        if version != "3":
            raise ModelError("no such version", version)
        return self.tags


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> type[StandInRegistry]:
    monkeypatch.setattr(aliases, "ModelRegistry", StandInRegistry)
    monkeypatch.setattr(StandInRegistry, "known", {"champion": "3"})
    monkeypatch.setattr(StandInRegistry, "tags", dict(TAGS))
    monkeypatch.setattr(StandInRegistry, "is_away", False)
    return StandInRegistry


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    root = Storage(str(tmp_path))
    root.put(f"{TAGS['bundle_prefix']}/bundle.json", b"{}")
    return root


REF = BundleRef(bundle_id="b3", prefix="models/bundles/b3", model_version="3")


def test_an_alias_is_resolved_and_recorded(storage: Storage) -> None:
    resolved = resolve_bundle(CHAMPION, storage, Settings())
    assert resolved.ref == REF
    assert resolved.registry_available
    assert recorded_alias(storage, "champion") == REF


@pytest.mark.parametrize("is_away", [False, True])
def test_an_alias_of_a_bundle_that_is_gone_is_refused_by_its_name(
    storage: Storage, registry: type[StandInRegistry], monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    record_alias(storage, "champion", REF)
    storage.delete(f"{REF.prefix}/bundle.json")
    monkeypatch.setattr(registry, "is_away", is_away)
    with pytest.raises(
        ModelError, match=r"@champion: version 3 points to models/bundles/b3, .* there is no bundle; re"
    ):
        resolve_bundle(CHAMPION, storage, Settings())


def test_a_registry_that_goes_away_after_its_first_answer_is_away(
    storage: Storage, registry: type[StandInRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: StandInRegistry, __: str) -> dict[str, str]:
        raise StorageError("away", retryable=True)

    record_alias(storage, "champion", REF)
    monkeypatch.setattr(registry, "version_tags", gone)
    resolved = resolve_bundle(CHAMPION, storage, Settings())
    assert (resolved.ref, resolved.registry_available) == (REF, False)


def test_with_the_registry_away_the_record_is_used_and_said(
    storage: Storage, registry: type[StandInRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_alias(storage, "champion", REF)
    monkeypatch.setattr(registry, "is_away", True)
    resolved = resolve_bundle(CHAMPION, storage, Settings())
    assert resolved.ref == REF
    assert not resolved.registry_available


def test_with_the_registry_away_and_no_record_nothing_is_guessed(
    storage: Storage, registry: type[StandInRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "is_away", True)
    with pytest.raises(ModelError, match="crrg retrain"):
        resolve_bundle(CHAMPION, storage, Settings())


def test_a_missing_alias_is_refused_with_what_exists_although_there_is_a_record(
    storage: Storage, registry: type[StandInRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_alias(storage, "champion", REF)
    monkeypatch.setattr(registry, "known", {"candidate": "3"})
    with pytest.raises(ModelError, match="candidate -> 3"):
        resolve_bundle(CHAMPION, storage, Settings())


@pytest.mark.parametrize("gate", ["failed", ""])
def test_a_champion_that_was_moved_by_hand_without_a_passed_gate_is_refused(
    storage: Storage, registry: type[StandInRegistry], monkeypatch: pytest.MonkeyPatch, gate: str
) -> None:
    monkeypatch.setattr(registry, "tags", {**TAGS, "gate": gate})
    with pytest.raises(ModelError, match="gate"):
        resolve_bundle(CHAMPION, storage, Settings())


@pytest.mark.parametrize("model", ["3", "models:/crrg-pipeline/3"])
def test_a_version_needs_no_gate(storage: Storage, registry: type[StandInRegistry], model: str) -> None:
    registry.tags["gate"] = "failed"
    assert resolve_bundle(model, storage, Settings()).ref == REF


def test_unknown_references_are_refused(storage: Storage) -> None:
    with pytest.raises(ModelError):
        resolve_bundle("4", storage, Settings())
    with pytest.raises(ModelError, match="only"):
        resolve_bundle("models:/other@champion", storage, Settings())
    with pytest.raises(ModelError, match="no bundle"):
        resolve_bundle(storage.url("nowhere"), storage, Settings())
    with pytest.raises(ModelError, match="a version such as 3, or models:/crrg-pipeline@champion"):
        resolve_bundle("champion", storage, Settings())
