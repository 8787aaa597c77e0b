"""What ``crrg doctor`` says of store, leases, disk, device and the rest, and the way out of what is wrong."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from crrg.config.base import Settings
from crrg.config.references import BundleRef
from crrg.data.decoding.isolation import Isolation
from crrg.data.decoding.pool import ChildReport
from crrg.errors import DeviceError, StorageError
from crrg.operations.upkeep import doctor
from crrg.operations.upkeep.doctor import _leases, examine
from crrg.storage import Storage
from tests.support.keys import KEY


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def test_a_good_store_lets_one_of_many_hold_a_night_and_nothing_stays(root):
    finding = _leases(root)
    assert finding.is_good
    assert "one holder of 8, renewed, removed" in finding.detail
    assert root.list_objects() == []


def test_a_store_without_conditional_writes_is_found_out(root, monkeypatch):
    monkeypatch.setattr(Storage, "put_if_absent", Storage.put)
    finding = _leases(root)
    assert not finding.is_good
    assert "8 of 8 took one lease (1 is right)" in finding.detail
    assert "two nights could run at once" in finding.way_out


def test_leases_that_may_not_be_written_are_said(root, monkeypatch):
    def denied(self: Storage, key: str, data: bytes) -> None:
        if key.startswith("leases/"):
            raise StorageError("PutObject is denied", key)

    monkeypatch.setattr(Storage, "put_if_absent", denied)
    finding = _leases(root)
    assert (finding.is_good, "no night can be held" in finding.detail) == (False, True)


def test_an_identity_that_may_not_delete_leaves_its_probe_to_gc(root, monkeypatch):
    monkeypatch.setattr(Storage, "discard", lambda self, key: False)
    finding = _leases(root)
    assert (finding.is_good, "left to crrg gc" in finding.detail) == (True, True)


def test_a_clock_that_is_far_from_the_stores_is_said(root, monkeypatch):
    real = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: real() + 1000)
    assert not _leases(root).is_good


def with_nothing_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything wrong that can be, but the store itself."""
    monkeypatch.setattr(Storage, "put_if_absent", Storage.put)
    monkeypatch.setattr(doctor, "free_bytes", lambda place: 2 * 2**20)
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "torch" else "1.0")
    monkeypatch.setattr(doctor, "_num_gpus_of_machine", lambda: 1)
    monkeypatch.setattr(doctor, "recorded_alias", lambda *_: BundleRef(bundle_id="b", prefix="p"))
    isolation = Isolation(no_new_privileges=False, own_network=False, calls_refused=False, limits=False)
    monkeypatch.setattr(doctor, "examine_child", lambda _limits: ChildReport(isolation, {}))


@pytest.mark.parametrize("why", ["everything", "the store is away", "no decoder starts", "the registry is away"])
def test_whatever_is_not_as_it_should_be_names_its_way_out(why: str, root, monkeypatch):
    with_nothing_right(monkeypatch)

    def away(*_: object) -> None:
        raise StorageError("is out of reach", "somewhere", retryable=True)

    if why == "the store is away":
        monkeypatch.setattr(Storage, "put_if_absent", away)
    if why == "the registry is away":
        monkeypatch.setattr(doctor, "ModelRegistry", away)
    if why == "no decoder starts":
        monkeypatch.setattr(doctor, "examine_child", lambda _limits: ChildReport(None, {}))
    found = examine(root, Settings(root=root.root))
    wrong = [each for each in found if not each.is_good]
    always = {"versions", "store", "leases", "disk", "device", "pseudonym key", "champion", "decoder process"}
    assert always <= {each.name for each in wrong}
    assert [each.name for each in wrong if not each.way_out] == []
    assert all(each.said == f"{each.detail}; {each.way_out}" for each in wrong)
    assert [each.name for each in found if each.is_good and each.way_out] == []


def test_a_decoder_that_only_takes_long_is_not_called_one_that_does_not_start(monkeypatch):
    monkeypatch.setattr(doctor, "examine_child", lambda _limits: ChildReport(None, {}, is_late=True))
    (finding,) = doctor._decoders()
    assert not finding.is_good
    assert "it does not answer within" in finding.detail
    assert "keeps this machine busy" in finding.way_out


def test_disk_and_device_of_this_machine_are_told(root, monkeypatch):
    monkeypatch.setattr(doctor, "_num_gpus_of_machine", lambda: 0)
    disk, device = doctor._disk(root), doctor._device()
    assert (disk.is_good, root.root in disk.detail, "GB" in disk.detail) == (True, True, True)
    assert device.is_good
    assert device.detail.startswith(("cuda", "cpu"))


def test_a_bucket_that_does_not_say_its_room_is_not_full():
    disk = doctor._disk(Storage("s3://bucket/root"))
    assert (disk.is_good, "bucket" in disk.detail) == (True, False)


def test_a_gpu_that_fails_is_said(monkeypatch):
    def fail(_device: str) -> None:
        raise DeviceError("the device has failed; run again with --device cpu", "device")

    monkeypatch.setattr(doctor, "resolve_device", fail)
    device = doctor._device()
    assert (device.is_good, "has failed" in device.detail, "--device cpu" in device.way_out) == (False, True, True)


def test_every_limit_on_what_comes_in_is_said(monkeypatch):
    isolation = Isolation(no_new_privileges=True, own_network=True, calls_refused=True, limits=True)
    monkeypatch.setattr(doctor, "examine_child", lambda _limits: ChildReport(isolation, {}))
    (limits,) = [each for each in doctor._decoders() if each.name == "decoder limits"]
    for said in (
        "2048 MiB, 20 s of processor", "files up to 512 MiB, 100,000,000 pixels, 1 frame, depth 32, 20,000 elements",
        "206 MiB inflated", "reports up to 20,000 characters", "XML 1 MiB", "scene graphs 8 MiB", "tables 512 MiB",
    ):  # fmt: skip
        assert said in limits.detail, said


@pytest.mark.parametrize(("mode", "is_good"), [(0o400, True), (0o440, True), (0o444, False)])
def test_a_secret_that_others_of_the_machine_can_read_is_told(mode, is_good, tmp_path):
    file = tmp_path / "hmac_key"
    file.write_text(KEY)
    file.chmod(mode)
    finding = doctor._secret(Settings(hmac_key_file=file))
    assert (finding.is_good, "chmod 400" in finding.way_out) == (is_good, not is_good)
    assert KEY not in finding.said


@pytest.mark.parametrize(
    ("limit", "budget_mib", "is_good"), [("max", 2048, True), ("4294967296", 2048, True), ("3221225472", 2048, False)]
)
def test_a_budget_of_memory_that_the_container_does_not_have_is_said(limit, budget_mib, is_good, tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{2**31 - 2**20}\n")
    monkeypatch.setattr(doctor, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**33))
    found = doctor._memory(Settings(memory_mib=budget_mib))
    assert (found.is_good, "CRRG_MEMORY_MIB" in found.way_out) == (is_good, not is_good)
    assert doctor._memory(Settings()).is_good
