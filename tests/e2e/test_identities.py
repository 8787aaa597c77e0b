"""Each job does its work under an identity with the shipped policy, and everything beside its work is refused.

The policies are given to a real SeaweedFS as they are shipped. That server reads less of the bucket's own policy than a
provider does (SECURITY.md says what), so its conditions are tested as far as it goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import date as Date
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.config.references import IngestSummary
from crrg.config.running import DeliverConfig, GroundConfig
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import read_pairs, resolve_dataset
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Pair, Split
from crrg.errors import StorageError
from crrg.ledger.audit import read_audit
from crrg.ledger.lease import find_holder
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import table_bytes
from crrg.operations.delivery.deliver import deliver
from crrg.operations.ingest.ground import ground
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.digest import committed_digest
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.reidentify import reidentify
from crrg.operations.privacy.rekey import rekey
from crrg.operations.privacy.retention import expire_results
from crrg.operations.root import open_root
from crrg.operations.training.draft_store import DRAFTS, FILMS_PER_PART
from crrg.operations.upkeep.audit import verify_audit
from crrg.operations.upkeep.backup import back_up, restore
from crrg.operations.upkeep.gc import collect_garbage
from crrg.registry.aliases import CHAMPION, record_alias
from crrg.storage import Storage
from crrg.training.clip import train_clip
from crrg.training.tracker import NullTracker
from deployments.identities import BUCKET as BUCKET_POLICY
from deployments.identities import IDENTITIES, policy
from tests.support.delivered_night import film_bytes
from tests.support.drawn_night import DATE, PSEUDONYMS, StandInDrafter, png_bytes, run_test_night
from tests.support.identities import BUCKET, PLACES, RESTORED, GuardedStore, may, start_guarded_store
from tests.support.keys import KEY, NEW_KEY
from tests.support.random_bundle import random_bundle
from tests.support.stand_in_bundle import stand_in_bundle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NUM_FILMS = 12
NEW_PSEUDONYMS = Pseudonyms(NEW_KEY.encode())
ACTIONS = ("get", "list", "put", "delete")
RIGHTS = """
                        ingest ground train nightly deliver gc   retention forget rekey backup restore
archive                 gl     -      -     -       -       -    -         -      -     -      -
inbox                   -      -      -     gl      gl      -    -         -      gl    -      -
identified              -      -      -     -       glp     -    -         gld    -     -      -
backup                  -      -      -     -       -       -    -         -      -     glpd   gl
restored                -      -      -     -       -       -    -         -      -     -      glp
data/datasets           glp    glp    gl    -       -       gld  gld       glpd   -     gl     -
data/staging            glp    -      -     -       -       gld  gld       gld    -     gl     -
data/checkpoints        -      -      glp   -       -       gld  gld       gl     -     gl     -
data/models             -      gl     glp   gl      -       gl   gl        gl     -     gl     -
data/models/aliases     -      glp    glp   glp     -       gl   gl        gl     -     gl     -
data/models/drafts      -      gl     glp   gl      -       gl   gl        glpd   -     gl     -
data/results            -      -      -     glp     gl      gld  glpd      glpd   glp   gl     -
data/quarantine         glp    -      -     glp     -       gld  glpd      glpd   glp   gl     -
data/ledger             -      -      -     glp     gl      gld  glpd      glpd   glp   gl     -
data/leases             -      -      -     glp     -       gld  glpd      glpd   glp   gl     -
data/leases/clock       -      -      -     glp     -       glpd glpd      glpd   glp   glp    -
data/spool              p      -      p     glp     -       gld  gld       gld    -     gl     -
data/audit              glp    glp    glp   glp     glp     glp  glp       glp    glp   glp    -
data/control            gl     gl     gl    gl      gl      gl   gl        gl     gl    gl     -
data/control/forgotten  gl     gl     gl    gl      gl      gl   gl        glp    glp   gl     -
data/control/forgetting gl     gl     gl    gl      gl      gl   gl        glpd   gl    gl     -
data                    -      -      -     -       -       -    -         -      -     gl     -
"""
"""What jobs may do in which folder."""
RIGHTS_OF_PEOPLE = """
                        reidentify reviewer auditor
archive                 gl         -        -
inbox                   gl         -        -
identified              -          -        -
backup                  -          -        -
restored                -          -        -
data/datasets           -          -        -
data/staging            -          -        -
data/checkpoints        -          -        -
data/models             -          -        -
data/models/aliases     -          -        -
data/models/drafts      -          -        -
data/results            gl         gl       gl
data/quarantine         -          -        gl
data/ledger             gl         -        gl
data/leases             -          -        gl
data/leases/clock       -          -        gl
data/spool              -          -        -
data/audit              glp        -        gl
data/control            -          -        -
data/control/forgotten  -          -        -
data/control/forgetting -          -        -
data                    -          -        -
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedStore]:
    started = start_guarded_store(tmp_path_factory.mktemp("guarded"), IDENTITIES)
    source, inbox = (started.storage("admin", place) for place in ("source", "inbox"))
    rows = ["file,patient_id,study_id,findings,impression"]
    for number in range(NUM_FILMS):
        source.put(f"a/{number}.png", png_bytes(number))
        rows.append(f"a/{number}.png,p{number},s{number},The lungs are clear. Heart size is normal.,No acute disease.")
    source.put("table.csv", "\n".join(rows).encode())
    inbox.put("b/pa.dcm", film_bytes(1, "5", "51"))
    inbox.put("c/pa.dcm", film_bytes(2, "6", "61"))
    yield started
    started.service.stop(0)


def rights() -> list[tuple[str, str, str]]:
    """Return (identity, folder, letters of what is allowed) from the tables."""
    found = []
    for text in (RIGHTS, RIGHTS_OF_PEOPLE):
        head, *lines = [line.split() for line in text.strip().splitlines()]
        found += [
            (identity, folder, "" if letters == "-" else letters)
            for folder, *cells in lines
            for identity, letters in zip(head, cells, strict=True)
        ]
    return found


@pytest.mark.parametrize("identity", IDENTITIES)
def test_nobody_may_do_more_or_less_than_the_tables_say(store: GuardedStore, identity: str) -> None:
    expected = {folder: letters for who, folder, letters in rights() if who == identity}
    assert len(expected) == 22
    found = {
        folder: "".join(action[0] for action in ACTIONS if may(store, identity, action, folder)) for folder in expected
    }
    assert found == expected


def test_only_gc_and_forget_may_delete() -> None:
    """Retention is ``crrg gc --results-older-than``; a backup is dropped from its own place."""
    deleted = {(who, folder) for who, folder, letters in rights() if "d" in letters}
    assert {who for who, folder in deleted if folder != "backup"} == {"gc", "retention", "forget"}
    assert {who for who, folder in deleted if folder == "backup"} == {"backup"}


def ingest_films(store: GuardedStore) -> IngestSummary:
    shares = {"train_share": 0.5, "validation_share": 0.3, "image_size": 64, "num_workers": 1}
    form = IngestConfig.model_validate({"source": [PLACES["source"]], "dataset": "drawn", **shares})
    return ingest(form, store.storage("ingest"), PSEUDONYMS, store.settings("ingest"))


def test_every_job_works_under_its_own_identity(store: GuardedStore) -> None:
    assert ingest_films(store).num_accepted == NUM_FILMS

    training = store.storage("train")
    stage = TrainStageConfig(dataset="drawn", preset="tiny", num_steps=2, device="cpu")
    result = train_clip(stage, resolve_dataset(training, "drawn"), training, NullTracker())
    assert training.exists(f"{result.prefix}/result.json")
    states = [each for each in training.list_objects(result.prefix) if "/state-" in each.key]
    assert [each.size for each in states] == [0, 0], "it may not delete, and empties what nobody goes on with"
    champion = random_bundle(training, resolve_dataset(training, "drawn"))
    record_alias(training, CHAMPION, champion)
    grounding = GroundConfig(dataset="drawn", device="cpu")
    grounded = ground(grounding, store.storage("ground"), Settings(root=PLACES["root"]))
    assert resolve_dataset(training, "drawn") == grounded
    bundle = stand_in_bundle(training)
    assert training.exists(f"{bundle.prefix}/bundle.json")

    root, inbox = store.storage("nightly"), store.storage("nightly", "inbox")
    night = run_test_night(inbox, root, StandInDrafter())
    assert (night.status, night.num_accepted) == ("committed", 2)
    assert run_test_night(inbox, root, StandInDrafter()).status == "nothing_new"
    assert find_holder(root) is None

    zone = Settings.model_validate({"identified_root": PLACES["identified"], "hmac_key": KEY})
    delivered = deliver(DeliverConfig(inbox=PLACES["inbox"]), store.storage("deliver"), zone)
    assert (delivered.num_delivered, delivered.reasons) == (2, {})

    review = Storage(f"{PLACES['root']}/results/date={DATE}", store.settings("reviewer"))
    pages = [each.key for each in review.list_objects() if each.key.endswith("review/index.html")]
    assert len(pages) == 1
    assert b"DRAFT" in review.get(pages[0])

    assert store.storage("admin").list_objects("leases") != []
    collect_garbage(store.storage("gc"), min_age_h=0, remove=True)
    assert store.storage("admin").list_objects("leases") == []
    assert run_test_night(inbox, root, StandInDrafter()).status == "nothing_new"


def training_pair(store: GuardedStore) -> Pair:
    training = store.storage("train")
    return next(read_pairs(training, resolve_dataset(training, "drawn"), Split.TRAIN))


def test_pseudonyms_of_nights_and_of_training_films_lead_back_under_the_identity_for_it(store: GuardedStore) -> None:
    root = store.storage("reidentify")
    of_night = PSEUDONYMS.study("2.25.8.5")
    (found,) = reidentify(PLACES["inbox"], [of_night], root, PSEUDONYMS)
    assert (found.file, found.study_uid) == ("b/pa.dcm", "2.25.8.5")
    of_training = training_pair(store).patient_id
    (film,) = reidentify(PLACES["source"], [of_training], root, PSEUDONYMS)
    assert (film.kind, film.file) == ("patient", f"a/{film.patient_id.removeprefix('p')}.png")
    asked = [entry for entry in read_audit(store.storage("admin")) if entry.action == "reidentify"]
    assert [entry.inputs for entry in asked] == [(of_night,), (of_training,)]


def test_the_audit_and_nights_are_verified_by_somebody_who_can_write_neither(store: GuardedStore) -> None:
    root = store.storage("auditor")
    check = verify_audit(root)
    assert (check.problems, check.num_anchors) == ((), len(read_manifests(store.storage("admin"))))
    assert len(read_audit(root)) == check.num_entries > 0
    assert check_nights(root).is_good
    for key in (check.head.key, "audit/99999999.json"):
        with pytest.raises(StorageError, match="denied"):
            root.put(key, b"{}")
    assert verify_audit(root, check.head.sha256) == check


def test_a_patient_is_forgotten_under_the_identity_for_it(store: GuardedStore) -> None:
    root, inbox = store.storage("nightly"), store.storage("nightly", "inbox")
    admin = store.storage("admin")
    for probe in ("control/forgotten/probe", "control/forgetting/probe"):
        admin.delete(probe)  # left by the tables above
    store.storage("admin", "inbox").put("d/pa.dcm", film_bytes(3, "7", "71", PatientID="MRN-0001"))
    assert run_test_night(inbox, root, StandInDrafter()).status == "committed"
    zone = Settings.model_validate({"identified_root": PLACES["identified"], "hmac_key": KEY})
    assert deliver(DeliverConfig(inbox=PLACES["inbox"]), store.storage("deliver"), zone).reasons == {}
    patient = PSEUDONYMS.patient("MRN-0001")
    found = forget([patient], store.storage("forget"), zone, remove=True)
    assert (found.is_removed, found.num_patients, found.num_delivered) == (True, 1, 1)
    assert found.num_withdrawn == 4
    assert found.old_versions == ()
    assert admin.list_objects("control/forgetting") == []
    study = PSEUDONYMS.study("2.25.8.7")
    assert [len(admin.list_objects(f"control/forgotten{folder}")) for folder in ("", "/ids")] == [2, 1]
    assert forget([study], store.storage("forget"), zone, remove=True).num_forgotten_before == 1
    assert not [each.key for each in admin.list_objects("results") if study in each.key]
    store.storage("admin", "inbox").put("e/pa.dcm", film_bytes(4, "7", "72", PatientID="MRN-0001"))
    assert run_test_night(inbox, root, StandInDrafter()).reasons == {"IDENTITY.FORGOTTEN": 1}


def test_a_training_patient_is_forgotten_under_the_identity_for_it(store: GuardedStore, tmp_path: Path) -> None:
    admin, training = store.storage("admin"), store.storage("train")
    film, dataset = training_pair(store), resolve_dataset(training, "drawn")
    ids = {name: getattr(film, name) for name in ("patient_id", "study_id", "instance_id")}
    others = [dict.fromkeys(ids, f"{number}") for number in range(FILMS_PER_PART)]
    drafts = f"{DRAFTS}/{'b' * 32}"
    admin.put(
        f"{drafts}/drawn-{dataset.version}-x/part-00000.parquet", table_bytes(pa.Table.from_pylist([*others, ids]))
    )
    for left in ("staging/a.json", "spool/a.json"):
        admin.put(left, film.patient_id.encode())
    champion = {each.key: admin.sha256(each.key) for each in admin.list_objects("models/bundles")}
    zone = {
        "identified_root": PLACES["identified"],
        "hmac_key": KEY,
        "mlflow_tracking_uri": f"sqlite:///{tmp_path}/m.db",
    }
    found = forget([film.patient_id], store.storage("forget"), Settings.model_validate(zone), remove=True)
    assert (found.is_removed, found.num_patients, len(found.dataset_rows)) == (True, 1, 2)
    assert found.models
    renewed = resolve_dataset(training, "drawn")
    assert film.patient_id not in {each.patient_id for each in read_pairs(training, renewed, Split.TRAIN)}
    left = [each.key for each in admin.list_objects(drafts)]
    assert left == [f"{drafts}/drawn-{renewed.version}-x/part-00000.parquet"]
    assert not [key for key in ("staging/a.json", "spool/a.json") if admin.exists(key)]
    assert {each.key: admin.sha256(each.key) for each in admin.list_objects("models/bundles")} == champion


def test_a_root_lives_on_under_the_identities_of_its_life_cycle(store: GuardedStore) -> None:
    root, inbox = store.storage("nightly"), store.storage("nightly", "inbox")
    inbox_url = PLACES["inbox"]
    assert run_test_night(inbox, root, StandInDrafter()).status in ("committed", "nothing_new")
    copied = back_up(store.storage("backup"), PLACES["backup"])
    assert copied.num_copied == copied.num_objects > 0
    # of a second one the audit's entry alone is new
    again = back_up(store.storage("backup"), PLACES["backup"])
    assert (again.num_copied, again.num_objects) == (1, copied.num_objects + 1)
    restored = store.storage("restore")
    # the probe of the tables above; a root that is not empty is not restored into
    Storage(RESTORED["root"], store.settings("admin")).delete("probe")
    assert restore(restored, PLACES["backup"]).num_objects == again.num_objects
    assert committed_digest(restored) == committed_digest(root)

    assert rekey(inbox_url, store.storage("rekey"), PSEUDONYMS, NEW_PSEUDONYMS, do=True).is_done
    assert {each.key_id for each in read_manifests(root)} == {NEW_PSEUDONYMS.key_id}
    later = Date.fromisoformat(DATE) + timedelta(days=40)
    expired = expire_results(store.storage("retention"), 30, with_newest=True, remove=True, today=later)
    assert (expired.is_removed, expired.num_drafts) == (True, 2)
    collect_garbage(store.storage("gc"), min_age_h=0, remove=True)
    left = [each.key for each in store.storage("admin").list_objects("results")]
    assert [key for key in left if key.endswith(("report.json", ".png"))] == []
    # a night that had no draft to give up keeps its page, of refused objects
    pages = {each.review_key for each in read_manifests(root)} - {""}
    assert {key for key in left if key.endswith("index.html")} == pages
    assert len(pages) == len(read_manifests(root)) - len(expired.nights)


def test_what_is_refused_is_said_and_names_no_secret(store: GuardedStore) -> None:
    with pytest.raises(StorageError, match="denied") as read:
        store.storage("train", "inbox").get("b/pa.dcm")
    with pytest.raises(StorageError, match="denied"):
        store.storage("ingest").put("models/bundles/x/bundle.json", b"{}")
    with pytest.raises(StorageError, match="denied"):
        store.storage("nightly").delete("results/date=2026-11-20/_manifest-1.json")
    with pytest.raises(StorageError, match="denied"):
        resolve_dataset(store.storage("reviewer"), "drawn")
    assert all(secret not in str(read.value) for secret in store.keys["train"])


@pytest.mark.parametrize("identity", sorted(set(IDENTITIES) - {"restore"}))
def test_commands_find_the_root_that_an_identity_may_not_list(
    store: GuardedStore, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    store.storage("admin").put("control/note", b"a root lies here")
    key, secret = store.keys[identity]
    for name, value in {
        "CRRG_ROOT": PLACES["root"],
        "CRRG_S3_ENDPOINT": store.service.url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
    }.items():
        monkeypatch.setenv(name, value)
    storage, _ = open_root(must_exist=True)
    assert storage.root == PLACES["root"]


@pytest.mark.parametrize(("root", "source"), [("train", "train"), ("train", "ingest")])
def test_an_ingest_that_may_not_read_or_not_write_says_so_and_leaves_nothing(
    store: GuardedStore, root: str, source: str
) -> None:
    form = IngestConfig.model_validate({"source": [PLACES["source"]], "dataset": "refused", "num_workers": 1})
    with pytest.raises(StorageError, match="denied") as refused:
        ingest(form, store.storage(root), PSEUDONYMS, store.settings(source))
    assert not refused.value.retryable
    assert all(secret not in str(refused.value) for secret in (*store.keys[root], *store.keys[source]))
    assert store.storage("admin").list_objects("datasets/refused") == []


def test_a_bucket_that_insists_on_encryption_gets_it_from_every_write(store: GuardedStore) -> None:
    client = store.client("admin")
    text = policy(BUCKET_POLICY, PLACES, encryption="AES256")
    only_encrypted = [each for each in text["Statement"] if each["Sid"] in ("NothingUnencrypted", "OnlyThisWay")]
    assert len(only_encrypted) == 2
    insist(store, only_encrypted, lambda: not may(store, "admin", "put", "data/results"))
    try:
        plain, encrypting = store.storage("admin"), store.storage("admin", encryption="AES256")
        with pytest.raises(StorageError, match="denied"):
            plain.put("results/a", b"1")
        encrypting.put("results/a", b"1")
        encrypting.put_if_absent("results/b", b"1")
        encrypting.filesystem.cp_file(encrypting.url("results/a"), encrypting.url("results/c"))
        assert encrypting.get("results/a") == b"1"
        for name in "abc":
            stored = client.head_object(Bucket=BUCKET, Key=f"data/results/{name}")
            assert stored["ServerSideEncryption"] == "AES256"
    finally:
        client.delete_bucket_policy(Bucket=BUCKET)


def test_a_bucket_that_insists_on_tls_refuses_a_connection_without_it(store: GuardedStore) -> None:
    """The last one: nobody gets rid of such a policy without TLS, and this server has none."""
    only_tls = [each for each in policy(BUCKET_POLICY, PLACES)["Statement"] if each["Sid"] == "OnlyOverTls"]
    assert may(store, "reviewer", "get", "data/results")
    insist(store, only_tls, lambda: not may(store, "reviewer", "get", "data/results"))
    with pytest.raises(StorageError, match="denied"):
        store.storage("admin").get("results/a")


def insist(store: GuardedStore, statements: list[dict[str, object]], holds) -> None:
    """Give the bucket a policy and wait until it holds."""
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    store.client("admin").put_bucket_policy(Bucket=BUCKET, Policy=document)
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s, "the bucket's policy does not hold"
        time.sleep(0.2)
