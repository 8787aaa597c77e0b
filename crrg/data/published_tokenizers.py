"""Vocabularies of published text towers: WordPiece of BERT, byte pairs of OpenAI's CLIP.

They are published apart from the weights and come as files of the user's. Whatever the file, what is kept is one
``tokenizer.json``. Nothing is downloaded.

Source: WordPiece as of Devlin et al. 2019; CLIP's byte pairs and pattern of words as of Radford et al. 2021.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import NFC, BertNormalizer, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from crrg.data.tokenizer import PhraseTokenizer, TextTokenizer
from crrg.errors import ConfigError, ModelError

TokenizerKind = Literal["bert", "clip"]
MARKS: dict[TokenizerKind, tuple[str, str]] = {
    "bert": ("[CLS]", "[SEP]"),
    "clip": ("<|startoftext|>", "<|endoftext|>"),
}
"""Tokens that begin and end a text."""
MAX_FILE_BYTES = 64 * 2**20
WORD_END = "</w>"
_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_VOCABULARY = 49408
"""OpenAI's list of merges is longer than its vocabulary; further merges are not used."""


class PublishedTokenizer:
    """Text to the token ids of a published text tower, begin and end marks included.

    Attributes:
        start_id: Id of the begin mark.
        end_id: Id of the end mark.
        vocab_size: Number of tokens.
        sha256: Digest of the ``tokenizer.json`` bytes.
        kind: Which marks begin and end a text.
    """

    def __init__(self, data: bytes, kind: TokenizerKind) -> None:
        """Read the bytes of a ``tokenizer.json``.

        Raises:
            ModelError: The bytes are no vocabulary, or one without the marks of its kind.
        """
        try:
            self._tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ModelError("tokenizer.json cannot be read; give the text tower's own", "tokenizer") from error
        start_id, end_id = (self._tokenizer.token_to_id(mark) for mark in MARKS[kind])
        if start_id is None or end_id is None:
            raise ModelError(
                f"the vocabulary has no {' and '.join(MARKS[kind])}; give the one of the checkpoint's own text tower",
                "tokenizer",
            )
        # a published file may cut or fill every text to one length
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.start_id, self.end_id = int(start_id), int(end_id)
        self.vocab_size = int(self._tokenizer.get_vocab_size())
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.kind = kind
        self._data = data

    @classmethod
    def of_reports(cls, files: Mapping[str, bytes], subject: str, vocabulary: str) -> PublishedTokenizer:
        """Return the vocabulary of an imported BERT that reads reports.

        Args:
            files: What the import wrote, by name.
            subject: What was imported, for messages.
            vocabulary: Which file to give, for messages.

        Raises:
            ModelError: None was given when it was imported, or it is none.
        """
        if "tokenizer.json" not in files:
            raise ModelError(
                "no vocabulary was given when this model was imported, so it cannot read reports; "
                f"import it again with --tokenizer ({vocabulary})",
                subject,
            )
        return cls(files["tokenizer.json"], "bert")

    def to_bytes(self) -> bytes:
        """Return the bytes of ``tokenizer.json``."""
        return self._data

    def text_ids(self, text: str, max_length: int) -> list[int]:
        """Return a text's token ids between its marks, at most ``max_length``; a longer text loses its last words."""
        return [self.start_id, *self.piece_ids(text)[: max_length - 2], self.end_id]

    def piece_ids(self, text: str) -> list[int]:
        """Return a text's token ids without marks, however many."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def text_tokenizer(config: Mapping[str, Any], data: bytes) -> TextTokenizer:
    """Return the vocabulary of a trained text tower: a published one where the stage started from it, else our own.

    Args:
        config: The stage's ``config.json``; ``tokenizer_kind`` names a published kind.
        data: Bytes of its ``tokenizer.json``.

    Raises:
        ModelError: The bytes are no such vocabulary.
    """
    kind: TokenizerKind | None = config.get("tokenizer_kind")
    return PhraseTokenizer(data) if kind is None else PublishedTokenizer(data, kind)


def read_tokenizer(path: Path, kind: TokenizerKind, *, lower_case: bool = True) -> bytes:
    """Turn a published vocabulary into the bytes of a ``tokenizer.json``.

    Args:
        path: ``tokenizer.json`` of either kind; ``vocab.txt`` for ``bert``; a list of merges (``merges.txt``, or
            OpenAI's ``bpe_simple_vocab_16e6.txt.gz``) for ``clip``.
        kind: What the text tower needs.
        lower_case: Whether a ``vocab.txt`` is used in lower case.

    Raises:
        ConfigError: There is no such file, or it is too large.
        ModelError: It holds no vocabulary of this kind.
    """
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        raise ConfigError(
            f"there is no tokenizer file of at most {MAX_FILE_BYTES // 2**20} MiB at this path", "tokenizer"
        )
    data = path.read_bytes()
    if path.name.endswith(".json"):
        found = data
    else:
        lines = _lines(data)
        found = bert_tokenizer(lines, lower_case=lower_case) if kind == "bert" else clip_tokenizer(lines)
    PublishedTokenizer(found, kind)
    return found


def bert_tokenizer(words: list[str], *, lower_case: bool) -> bytes:
    """Return the ``tokenizer.json`` of a WordPiece vocabulary.

    Args:
        words: One token per line of ``vocab.txt``, in the order of their ids.
        lower_case: Whether texts are put in lower case and lose their accents.
    """
    if "[UNK]" not in words:
        raise ModelError("vocab.txt has no [UNK]; give the text tower's own vocabulary", "tokenizer")
    tokenizer = Tokenizer(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer.to_str().encode()


def clip_tokenizer(lines: list[str]) -> bytes:
    """Return the ``tokenizer.json`` of a list of merges, the vocabulary being bytes, bytes at a word's end, and merges.

    Args:
        lines: Two parts per line, best merge first; a first line that names a version is a heading.
    """
    merges = lines[1:] if lines and "#version" in lines[0] else lines
    rows = [line.split() for line in merges[: _CLIP_VOCABULARY - 2 * 256 - len(MARKS["clip"])]]
    if not rows or any(len(row) != 2 for row in rows):
        raise ModelError("the list of merges must have two parts in each line", "tokenizer")
    pairs = [(first, second) for first, second in rows]
    letters = _byte_letters()
    words = [*letters, *(letter + WORD_END for letter in letters), *(first + second for first, second in pairs)]
    words += MARKS["clip"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=pairs,
            continuing_subword_prefix="",
            end_of_word_suffix=WORD_END,
            unk_token=MARKS["clip"][1],
        )
    )
    tokenizer.normalizer = Normalizers([NFC(), Replace(Regex(r"\s+"), " "), Lowercase()])
    tokenizer.pre_tokenizer = PreTokenizers(
        [Split(Regex(_CLIP_WORDS), behavior="removed", invert=True), ByteLevel(add_prefix_space=False)]
    )
    return tokenizer.to_str().encode()


def _byte_letters() -> list[str]:
    """Return the letter that stands for each byte, printable bytes first: the order of CLIP's ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]


def _lines(data: bytes) -> list[str]:
    try:
        if data[:2] == b"\x1f\x8b":
            inflater = zlib.decompressobj(wbits=31)
            data = inflater.decompress(data, MAX_FILE_BYTES)
            if not inflater.eof or inflater.unused_data:
                reason = f"the packed vocabulary was cut, or is more than {MAX_FILE_BYTES} bytes; fetch it again"
                raise ModelError(reason, "tokenizer")
        text = data.decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise ModelError("the vocabulary is no text, plain or gzip", "tokenizer") from error
    return text.rstrip("\n").split("\n")
