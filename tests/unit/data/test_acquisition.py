"""Sex, age band and maker: what may be read of them, in which words they go on, and the table they lie in."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crrg.data.acquisition_words import acquisition_of_words, age_band_of_words, manufacturer_of_words
from crrg.data.archives.chexpert import ChexpertSource
from crrg.data.archives.folder import FolderSource
from crrg.data.dataset.acquisition_table import TABLE_NAME
from crrg.data.dataset.pairs import read_manifest, read_pairs, write_dataset
from crrg.data.dataset.reader import PairReader
from crrg.data.decoding.child import _describe
from crrg.data.decoding.pool import _outcome, decode_many
from crrg.data.film import DecodedFilm, read_film
from crrg.domain.acquisition import AGE_BANDS, UNKNOWN, Acquisition
from crrg.domain.study import Split
from crrg.errors import DigestMismatch, StorageError
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom
from tests.support.drawn_archives import build_pair, write_picture
from tests.support.made_pairs import make_film, make_pair

WOMAN = Acquisition("F", "60-79", "siemens")
SETTINGS = {"image_size": 64}


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("045Y", "40-59"), ("006M", "0-15"), ("003W", "0-15"), ("000D", "0-15"), ("015Y", "0-15"), ("016Y", "16-39"),
        ("191M", "0-15"), ("192M", "16-39"), ("039Y", "16-39"), ("040Y", "40-59"), ("060Y", "60-79"),
        ("079Y", "60-79"), ("080Y", "80 and over"), ("089Y", "80 and over"), ("090Y", "80 and over"),
        ("103Y", "80 and over"), ("51", "40-59"), ("65.0", "60-79"), ("90+", "80 and over"), ("0.5", "0-15"),
        ("0", None), ("0.0", None), ("", None), ("155", None), ("148Y", None), ("Y", None), ("old", None),
        ("19470823", None), ("45 Y of Smith", None), ("-3", None),
    ],
)  # fmt: skip
def test_an_age_becomes_a_band_or_nothing(text: str, band: str | None) -> None:
    assert age_band_of_words(text) == band


def test_nobody_above_eighty_is_told_apart() -> None:
    assert {age_band_of_words(f"{age:03d}Y") for age in range(80, 121)} == {"80 and over"}
    assert {age_band_of_words(f"{age:03d}Y") for age in range(121)} == set(AGE_BANDS)


@pytest.mark.parametrize(
    ("text", "maker"),
    [
        ("SIEMENS", "siemens"), ("Siemens Healthineers AG", "siemens"), ('"GE Healthcare"', "ge"),
        ("GE MEDICAL SYSTEMS", "ge"), ("General Electric Co", "ge"), ("Philips Medical Systems", "philips"),
        ("FUJI PHOTO FILM Co., ltd.", "fujifilm"), ("FUJIFILM Corporation", "fujifilm"), ("KODAK", "carestream"),
        ("Carestream Health", "carestream"), ("KONICA MINOLTA", "konica_minolta"), ("Canon Inc.", "canon"),
        ("Agfa-Gevaert", "agfa"), ("Drawn Radiography", "other"), ("Imagenes del Norte", "other"),
        ("Gerhard's X-ray van, room 7", "other"), ("", None), (" - ", None),
    ],
)  # fmt: skip
def test_a_maker_is_a_name_of_the_list(text: str, maker: str | None) -> None:
    assert manufacturer_of_words(text) == maker


def test_sex_is_one_of_two_words_or_nothing() -> None:
    known = {word: acquisition_of_words(sex=word).sex for word in ("F", "female", " M ", "Male", "O", "Unknown", "")}
    assert known == {"F": "F", "female": "F", " M ": "M", "Male": "M", "O": None, "Unknown": None, "": None}


@pytest.mark.parametrize("words", [{"sex": "Quux"}, {"age_band": "45"}, {"manufacturer": "Ward 7 Siemens"}])
def test_no_other_word_can_stand_there_and_none_is_repeated(words: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be one of") as caught:
        Acquisition(**words)
    assert not any(word in str(caught.value).split(" must ")[0] for word in words.values())


def test_a_film_is_told_by_its_header_in_words_of_the_lists_alone() -> None:
    tags = {"PatientSex": "F", "PatientAge": "067Y", "Manufacturer": "Siemens in Vexhallow", "StationName": "VEX7"}
    decoded = read_film(build_dicom(**tags), 64)
    assert decoded.acquisition == WOMAN
    described = json.dumps(_describe(decoded))
    assert not any(text in described for text in ("067", "67", "Vexhallow", "VEX7"))
    bare = read_film(build_dicom(PatientAge=None), 64)
    assert (bare.acquisition, bare.acquisition.is_known) == (UNKNOWN, False)


def test_a_decoding_child_tells_the_same_and_is_not_believed_another_word() -> None:
    data = build_dicom(PatientSex="F", PatientAge="067Y", Manufacturer="Siemens")
    (outcome,) = decode_many([data], 64, 1)
    assert isinstance(outcome, DecodedFilm)
    assert outcome.acquisition == WOMAN
    described = {**_describe(outcome), "acquisition": {"sex": "F", "age_band": "067Y", "manufacturer": None}}
    with pytest.raises(ValueError, match="age_band must be one of"):
        _outcome(described, outcome.film.pixels.tobytes())


def test_a_table_counts_before_the_header_and_leaves_it_what_it_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(build_dicom(PatientSex="M", PatientAge="067Y", Manufacturer="Siemens"))
    write_picture(tmp_path / "b.png", 9)
    (tmp_path / "films.csv").write_text("File,Patient Sex,Age\na.dcm,Female,\nb.png,Ward 7,31\n")
    source = FolderSource(Storage(str(tmp_path)))
    known = {item.name: build_pair(source, item).acquisition for item in source.items()}
    assert known == {"a.dcm": WOMAN, "b.png": Acquisition(age_band="16-39")}


def test_sex_and_age_of_chexpert_are_read_and_unknown_ones_refuse_nothing(tmp_path: Path) -> None:
    rows = {"Female,90": Acquisition("F", "80 and over"), "Unknown,0": UNKNOWN, "Male,45": Acquisition("M", "40-59")}
    lines = ["Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding"]
    for number, words in enumerate(rows):
        name = f"patient0000{number}/study1/view1_frontal.jpg"
        write_picture(tmp_path / "train" / name, 9 * number)
        lines.append(f"CheXpert-v1.0/train/{name},{words},Frontal,AP,1.0")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    source = ChexpertSource(Storage(str(tmp_path)))
    assert [build_pair(source, item).acquisition for item in source.items()] == list(rows.values())


def test_what_is_known_comes_back_and_lies_apart_from_the_parts(storage: Storage) -> None:
    pairs = [replace(make_pair(n, film=make_film(seed=n)), acquisition=WOMAN if n % 2 else UNKNOWN) for n in range(6)]
    # a text has no film, so nothing was taken of anybody
    pairs.append(replace(make_pair(9, Split.TEST), acquisition=WOMAN))
    ref = write_dataset(storage, "demo", pairs, SETTINGS)
    back = {pair.instance_id: pair.acquisition for split in Split for pair in read_pairs(storage, ref, split)}
    assert back == {**{pair.instance_id: pair.acquisition for pair in pairs}, "instance9": UNKNOWN}
    manifest = read_manifest(storage, ref)
    entry = manifest["acquisition"]
    folder = ref.manifest_key.rpartition("/")[0]
    assert entry["key"] == f"{folder}/{TABLE_NAME}"
    assert {each["key"].rpartition("/")[0].rpartition("/")[2] for each in manifest["files"]} == {
        "split=test", "split=train"
    }  # fmt: skip
    rows = pq.read_table(io.BytesIO(storage.get_verified(entry["key"], entry["sha256"]))).to_pylist()
    assert (len(rows), entry["num_rows"]) == (6, 6)
    assert rows[1] == {"instance_id": "instance1", "sex": "F", "age_band": "60-79", "manufacturer": "siemens"}
    assert rows[0] == {"instance_id": "instance0", "sex": None, "age_band": None, "manufacturer": None}
    # whoever reads a split's folder as it lies finds the columns of the contract and nothing else
    found = pq.read_table(f"{storage.root}/{folder}/split=train", partitioning=None)
    assert (found.num_rows, "sex" in found.column_names) == (6, False)
    assert PairReader(storage, ref, Split.TRAIN)[1].acquisition == UNKNOWN


def test_a_version_of_which_nothing_is_known_is_what_it_was_before_there_was_a_table(storage: Storage) -> None:
    pairs = [make_pair(n, film=make_film(seed=n)) for n in range(3)]
    plain = write_dataset(storage, "demo", pairs, SETTINGS)
    assert "acquisition" not in read_manifest(storage, plain)
    assert [stored.key for stored in storage.list_objects() if stored.key.endswith(TABLE_NAME)] == []
    known = write_dataset(storage, "demo", [replace(pairs[0], acquisition=WOMAN), *pairs[1:]], SETTINGS)
    other = write_dataset(
        storage, "demo", [replace(pairs[0], acquisition=Acquisition("M")), *pairs[1:]], SETTINGS
    )  # fmt: skip
    assert len({plain.version, known.version, other.version}) == 3
    before, after = (
        [(storage.get(each["key"])) for each in read_manifest(storage, ref)["files"]] for ref in (plain, known)
    )
    assert before == after
    assert [pair.acquisition for pair in read_pairs(storage, plain, Split.TRAIN)] == [UNKNOWN] * 3


def test_a_damaged_or_later_table_is_refused_and_a_word_of_a_later_list_is_unknown(storage: Storage) -> None:
    ref = write_dataset(storage, "demo", [replace(make_pair(1, film=make_film()), acquisition=WOMAN)], SETTINGS)
    manifest = read_manifest(storage, ref)
    entry = manifest["acquisition"]
    data = storage.get(entry["key"])
    storage.put(entry["key"], data[:-1])
    with pytest.raises(DigestMismatch):
        next(read_pairs(storage, ref, Split.TRAIN))
    table = pq.read_table(io.BytesIO(data)).to_pydict() | {"manufacturer": ["maker of 2031"]}
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(data)).from_pydict(table), sink)
    storage.put(entry["key"], sink.getvalue())
    later = {**entry, "sha256": storage.sha256(entry["key"])}
    storage.put_json(ref.manifest_key, {**manifest, "acquisition": later})
    assert next(read_pairs(storage, ref, Split.TRAIN)).acquisition == Acquisition("F", "60-79")
    storage.put_json(ref.manifest_key, {**manifest, "acquisition": {**later, "schema_version": 2}})
    with pytest.raises(StorageError, match="schema version is 2, this program reads 1"):
        next(read_pairs(storage, ref, Split.TRAIN))
