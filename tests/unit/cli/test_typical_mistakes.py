"""What people type at first: one line that says what is wrong and the way out, exit code 2, nothing written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crrg.cli import app
from crrg.config.data import IngestConfig
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.ledger.inventory import list_inbox
from crrg.operations import predict, zero_shot
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night import feed as night_feed
from crrg.operations.predict import PredictSummary
from crrg.operations.root import check_outside
from crrg.retries import lasting_error
from crrg.storage import Storage
from tests.support.drawn_archives import write_picture
from tests.support.drawn_night import StandInDrafter, png_bytes, run_test_night
from tests.support.keys import KEY, NEW_KEY

FILES = ["films/a.png", "films/b.txt", "texts/read.me"]


def refused(*arguments: str, code: int = 2) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    monkeypatch.delenv("CRRG_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    write_picture(tmp_path / FILES[0])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("films/a.png", "source: this is a file; name the folder that contains it"),
        ("", "source: an address is empty .unset variable.*; use . for the current folder"),
        (".", "source: it contains the root, .* give another --root"),
        ("texts", "dataset d: this kind of archive finds neither .* check the address"),
        ("S3://bucket/films", "nothing opens S3:// addresses; give a folder or s3://bucket/prefix"),
    ],
)
def test_an_ingest_of_what_is_no_archive(source: str, said: str) -> None:
    assert re.search(said, refused("ingest", source, "--dataset", "d"))


def test_an_ingest_that_refuses_everything_says_why() -> None:
    Path("films/a.png").unlink()
    for name in ("c.dcm", "d.png", "e.png"):
        Path("films", name).write_bytes(b"x" * len(name) if name == "c.dcm" else b"")
    line = refused("ingest", "films", "--dataset", "d", code=1)
    assert "dataset d: none of 3 inputs was accepted: " in line
    assert "EMPTY.FILE 2" in line


def test_an_archive_that_is_not_of_its_kind_is_told_what_is_looked_for() -> None:
    line = refused("ingest", "films", "--dataset", "d", "--source", "phantom")
    assert "(phantom: reports.csv and truth.parquet, as `crrg phantom` writes them; links are not followed)" in line
    line = refused("ingest", "films", "rsna:films", "--dataset", "d", "--source", "chexpert")
    assert "chexpert: train.csv" in line
    assert "rsna: stage_2_train_labels.csv" in line


def test_a_table_that_cannot_be_read_says_in_which_of_several_archives_and_on_which_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_picture(Path("second/a.png"), 9)
    Path("second/reports.csv").write_bytes("file,findings\na.png,Clear.\nb.png,Ödem.\n".encode("latin-1"))
    done = CliRunner().invoke(app, ["ingest", "films", "second", "--dataset", "d"])
    assert done.exit_code == 1
    place = "archive 2 of 2: table 1 of 1 in order of names: line 3: the table is not UTF-8"
    assert place in done.stderr.splitlines()[-1]
    Path("second/reports.csv").unlink()
    form = IngestConfig(source=("films", "rsna:texts"), dataset="d", image_size=64, num_workers=1)
    ingest(form, Storage("crrg-data"), Pseudonyms(KEY.encode()))
    assert "archive 2 of 2 has no input of its kind" in caplog.text


def test_a_list_with_a_wrong_entry_is_told_once() -> None:
    assert refused("ingest", "films", "--dataset", "d", "--languages", "en,xx").startswith("crrg: languages.1: Input ")
    assert refused("deliver", "--inbox", "films", "--form", "pdf").startswith("crrg: forms.0: Input should be 'fhir'")


def test_a_setting_is_named_as_it_was_set_and_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_MAX_FILE_MIB", "many")
    line = refused("digest")
    assert "CRRG_MAX_FILE_MIB: Input should be a valid integer" in line
    assert line.endswith("; it is 'many'")
    Path("crrg.toml").write_text("max_file_mib = 0\n")
    assert "max_file_mib in crrg.toml: Input should be greater than or equal to 1; it is '0'" in refused("digest")
    Path("crrg.toml").write_text("max_file_mib = 1\nhmac_key = [7]\n")
    line = refused("digest")
    assert "hmac_key in crrg.toml: Input should be a valid string" in line
    assert "7" not in line


def test_nothing_to_promote_and_newest_drafts_of_no_nights() -> None:
    assert refused("promote").endswith("give VERSION or --rollback")
    assert refused("promote", "3", "--rollback").endswith("give VERSION or --rollback, not both")
    assert "--with-newest: it says which drafts of old nights go; give --results-older" in refused(
        "gc", "--with-newest"
    )


def test_a_root_that_is_a_file() -> None:
    assert "phantom: this is a file" in refused("phantom", "films/a.png", "--studies", "1")
    Path("crrg-data").mkdir()
    for command in ("backup", "restore"):
        assert "backup: this is a file" in refused(command, "films/a.png")
    assert "root: this is a file" in refused("digest", "--root", "films/a.png")
    assert "root: this is a file" in refused("demo", "--no-orchestrator", "--root", "films/a.png")


def test_a_name_that_is_nearly_right() -> None:
    Path("form.toml").write_text("image_sise = 512")
    assert "form.toml: there is no setting image_sise; did you mean image_size?" in refused(
        "ingest", "films", "--dataset", "d", "--config", "form.toml"
    )
    Storage("crrg-data").put("datasets/chest/version=1/part", b"")
    assert "(existing datasets: chest); run crrg ingest" in refused("train", "detector", "--dataset", "chst")
    kind = refused("ingest", "films", "--dataset", "d", "--source", "foldr")
    assert kind.startswith("crrg: source_kind: kind of source is one of auto, ")


@pytest.mark.parametrize("command", ["nightly", "outcomes"])
def test_an_inbox_of_an_unset_variable(command: str) -> None:
    assert "address: it is empty" in refused(command, "--inbox", "")


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "films/a.png", "--out"),
        ("zero-shot", "films/a.png", "--label", "Edema", "--out"),
        ("import", "rgrg", "films/b.txt", "--out"),
        ("phantom", "--studies", "1"),
    ],
)
def test_results_into_a_file_or_an_unset_variable(command: tuple[str, ...]) -> None:
    before = sorted(Path().rglob("*"))
    assert "this is a file; name the folder" in refused(*command, "films/b.txt")
    assert "address: it is empty" in refused(*command, "")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", [("predict",), ("zero-shot", "--label", "Edema")])
def test_films_that_are_not_there_are_told_before_a_model_is_looked_for(command: tuple[str, ...]) -> None:
    line = refused(*command, "films/a.png", "films", "films/c.dcm", "--out", "drafts")
    assert "files: 2 of 3 paths are not files (number 2, 3 of them); give existing files" in line


@pytest.mark.parametrize("command", [("predict",), ("zero-shot", "--label", "Edema")])
def test_results_that_go_by_names_of_files_into_the_root(command: tuple[str, ...]) -> None:
    Path("elsewhere").symlink_to("crrg-data")
    for out in ("crrg-data", "crrg-data/results/x", "elsewhere/y"):
        line = refused(*command, "films/a.png", "--out", out)
        assert "--out: it lies within the root, which holds pseudonyms alone" in line
    assert not Path("crrg-data").exists()


@pytest.mark.parametrize("command", [("predict",), ("zero-shot", "--label", "Edema")])
def test_a_secret_that_is_not_that_of_the_nights(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    inbox, root = Storage("inbox"), Storage("crrg-data")
    inbox.put("1.png", png_bytes(1))
    run_test_night(inbox, root, StandInDrafter(), date="2020-01-01", num_workers=0)
    monkeypatch.setenv("CRRG_HMAC_KEY", NEW_KEY)
    line = refused(*command, "films/a.png", "--out", "drafts")
    assert "CRRG_HMAC_KEY: the nights of this root were made with secret" in line
    assert not Path("drafts").exists()


def test_an_inbox_that_is_a_file_or_holds_the_root() -> None:
    pseudonyms = Pseudonyms(KEY.encode())
    with pytest.raises(ConfigError, match="inbox: this is a file"):
        list_inbox(Storage("films/a.png"), pseudonyms.object_key)
    with pytest.raises(ConfigError, match="inbox: it contains the root"):
        check_outside(Storage("films/root"), Storage("films"), "inbox")
    Path("link").symlink_to("films")
    for root, inbox in (("link/root", "films"), ("films/root", "link"), ("films", "films")):
        with pytest.raises(ConfigError, match="inbox: it contains the root"):
            check_outside(Storage(root), Storage(inbox), "inbox")
    check_outside(Storage("films"), Storage("films/inbox"), "inbox")
    check_outside(Storage("films-root"), Storage("films"), "inbox")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ImportError("Please install gcsfs"),
            "no client for gs:// is installed (Please install gcsfs); install it, or",
        ),
        (NotImplementedError(), "gs:// addresses can only be read; give a folder or s3://bucket/prefix"),
    ],
)
def test_a_kind_of_store_that_cannot_be_used(error: Exception, said: str) -> None:
    lasting = lasting_error(error, "gs://bucket/root", "key", is_local=False)
    assert isinstance(lasting, ConfigError)
    assert said in str(lasting)


def test_a_file_that_is_no_film_says_where_the_reason_stands_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = PredictSummary(num_drafted=0, reasons={"notes.txt": "NOT_DICOM.MARK"})
    monkeypatch.setattr(predict, "predict_with", lambda *_: summary)
    done = CliRunner().invoke(app, ["predict", "notes.txt", "--out", "drafts"])
    assert done.stdout.splitlines() == [
        "0 drafted in drafts",
        "notes.txt: NOT_DICOM.MARK; see notes.txt.json there for the reason",
    ]


@pytest.mark.parametrize(
    ("num_drafted", "reasons", "code"),
    [
        (0, {"a": "NOT_DICOM.MARK"}, 3),
        (3, {"a": "NOT_DICOM.MARK"}, 3),
        (4, {"a": "NOT_DICOM.MARK"}, 0),
        (0, {"a": "VIEW.LATERAL", "b": "MODALITY.CT"}, 0),
        (1, {}, 0),
    ],
)
@pytest.mark.parametrize("command", ["predict", "zero-shot"])
def test_files_of_which_most_were_refused_end_as_such_a_night_does(
    command: str, num_drafted: int, reasons: dict[str, str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = PredictSummary(num_drafted=num_drafted, reasons=reasons)
    monkeypatch.setattr(predict, "predict_with", lambda *_: summary)
    monkeypatch.setattr(zero_shot, "ask_with", lambda *_: summary)
    flags = ["--label", "effusion"] if command == "zero-shot" else []
    assert CliRunner().invoke(app, [command, "a", "--out", "drafts", *flags]).exit_code == code
