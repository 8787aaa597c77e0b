"""Published vocabularies: the same ids as the libraries they were published with."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from transformers import BertTokenizer, CLIPTokenizer

from crrg.data import published_tokenizers
from crrg.data.published_tokenizers import PublishedTokenizer, TokenizerKind, read_tokenizer
from crrg.errors import ConfigError, ModelError

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "no",
    "effusion",
    "effus",
    "##ion",
    "left",
    "pleural",
    ".",
    "heart",
]
MERGES = ["e f", "ef f", "eff u", "n o</w>", "l e", "le f", "lef t</w>", "1 2"]
TEXTS = ["No pleural  effusion.", "LEFT effusion; 12 heart's Ångström", "no-effusion", ""]


def vocabulary(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder / "vocab.txt"


def merges(folder: Path) -> Path:
    (folder / "merges.txt.gz").write_bytes(gzip.compress(("#version: 0.2\n" + "\n".join(MERGES) + "\n").encode()))
    return folder / "merges.txt.gz"


def test_wordpieces_are_those_of_bert(tmp_path: Path) -> None:
    tokenizer = PublishedTokenizer(read_tokenizer(vocabulary(tmp_path), "bert"), "bert")
    reference = BertTokenizer(vocab=str(tmp_path / "vocab.txt"), do_lower_case=True)
    for text in TEXTS:
        assert tokenizer.text_ids(text, 64) == reference(text)["input_ids"], text
    # by hand: [CLS] no pleural effusion . [SEP]
    assert tokenizer.text_ids("No pleural effusion.", 64) == [2, 5, 10, 6, 11, 3]
    assert tokenizer.text_ids("No pleural effusion.", 4) == [2, 5, 10, 3]
    assert (tokenizer.vocab_size, tokenizer.end_id) == (13, 3)


def test_a_cased_vocabulary_keeps_its_case_where_asked(tmp_path: Path) -> None:
    tokenizer = PublishedTokenizer(read_tokenizer(vocabulary(tmp_path), "bert", lower_case=False), "bert")
    assert tokenizer.text_ids("No effusion", 64) == [2, 1, 6, 3]


def test_byte_pairs_are_those_of_clip(tmp_path: Path) -> None:
    tokenizer = PublishedTokenizer(read_tokenizer(merges(tmp_path), "clip"), "clip")
    assert tokenizer.vocab_size == 2 * 256 + len(MERGES) + 2
    ids = tokenizer._tokenizer.get_vocab()
    reference = CLIPTokenizer(vocab=ids, merges=[tuple(line.split()) for line in MERGES])
    for text in TEXTS:
        assert tokenizer.text_ids(text, 77) == reference(text)["input_ids"], text
    # by hand: bytes come first, printable ones before the others, then the same at a word's end, then merges
    assert (ids["!"], ids["!</w>"], ids["ef"], ids["<|startoftext|>"]) == (0, 256, 512, 520)
    assert tokenizer.text_ids("no", 77) == [520, 515, 521]
    assert tokenizer.text_ids("left left left", 4)[-1] == 521


def test_a_tokenizer_file_stays_as_it_is(tmp_path: Path) -> None:
    data = read_tokenizer(vocabulary(tmp_path), "bert")
    (tmp_path / "tokenizer.json").write_bytes(data)
    assert read_tokenizer(tmp_path / "tokenizer.json", "bert") == data


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("vocab.txt", "no\nyes\n", "bert", r"no \[UNK\]"),
        ("vocab.txt", "[UNK]\nyes\n", "bert", r"no \[CLS\]"),
        ("merges.txt", "a b c\n", "clip", "two parts"),
        ("tokenizer.json", "{}", "clip", "cannot be read"),
    ],
)
def test_what_is_no_such_vocabulary_is_refused(
    tmp_path: Path, name: str, content: str, kind: TokenizerKind, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        read_tokenizer(tmp_path / name, kind)
    with pytest.raises(ConfigError, match="no tokenizer file"):
        read_tokenizer(tmp_path / "absent.txt", kind)


@pytest.mark.parametrize("cut", [0, 9])
def test_a_packed_vocabulary_that_grows_or_was_cut_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(published_tokenizers, "MAX_FILE_BYTES", 4096)
    packed = gzip.compress(b"a b\n" * (2 if cut else 5000))
    (tmp_path / "merges.txt.gz").write_bytes(packed[: len(packed) - cut])
    with pytest.raises(ModelError, match="cut, or is more than 4096 bytes"):
        read_tokenizer(tmp_path / "merges.txt.gz", "clip")
