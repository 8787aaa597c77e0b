"""Byte-level byte-pair vocabulary of phrases, trained on the training phrases themselves.

Any text can be encoded, since single bytes are in the vocabulary. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from crrg.errors import ModelError

END_TOKEN = "<|endoftext|>"
"""Begins, ends and pads a phrase, as in GPT-2."""
PLACEHOLDER_TOKEN = "<deid>"
"""Stands in training text where something identifying was removed; never generated."""

TOKEN_SPACES = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class TextTokenizer(Protocol):
    """Text to the token ids that a text tower of CLIP reads; ours is one, published ones are others."""

    @property
    def end_id(self) -> int:
        """Id of the token that ends a text."""

    @property
    def sha256(self) -> str:
        """Digest of its ``tokenizer.json``."""

    def to_bytes(self) -> bytes:
        """Return the bytes of ``tokenizer.json``."""

    def text_ids(self, text: str, max_length: int) -> list[int]:
        """Return the token ids of a text, its end token always the last of at most ``max_length``."""


class PhraseTokenizer:
    """Text to token ids and back.

    Attributes:
        end_id: Id of the begin, end and padding token.
        placeholder_id: Id of the de-identification placeholder, -1 if the vocabulary has none.
        vocab_size: Number of tokens.
        sha256: Digest of the ``tokenizer.json`` bytes.
    """

    def __init__(self, data: bytes) -> None:
        """Read the bytes of a ``tokenizer.json``.

        Raises:
            ModelError: The bytes are no vocabulary, or one without an end token.
        """
        try:
            self._tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ModelError("tokenizer.json cannot be read; restore the stage's folder", "tokenizer") from error
        end_id = self._tokenizer.token_to_id(END_TOKEN)
        if end_id is None:
            raise ModelError(f"the vocabulary has no {END_TOKEN} token; train the generator again", "tokenizer")
        placeholder_id = self._tokenizer.token_to_id(PLACEHOLDER_TOKEN)
        # a published file may cut or fill every text to one length
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._data = data
        self.end_id = int(end_id)
        self.placeholder_id = -1 if placeholder_id is None else int(placeholder_id)
        self.vocab_size = int(self._tokenizer.get_vocab_size())
        self.sha256 = hashlib.sha256(data).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the bytes of ``tokenizer.json``."""
        return self._data

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without begin and end."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text_ids(self, text: str, max_length: int) -> list[int]:
        """Return a text's token ids in lower case and the end token, at most ``max_length``."""
        return [*self.encode(text.lower())[: max_length - 1], self.end_id]

    def encode_phrases(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return phrases as begin token, words, end token.

        Args:
            texts: Phrases.
            max_length: Longest row, begin and end included; a longer phrase is cut and then has no end token.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[self.end_id, *encoding.ids, self.end_id][:max_length] for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; special tokens are left out, outer white space is removed."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def without_token_spaces(text: str) -> str:
    """Return decoded text without the blanks before punctuation and contracted words, as published code decodes.

    Source: ``clean_up_tokenization`` of transformers, which RGRG decodes with; in its order.
    """
    for found, wanted in TOKEN_SPACES:
        text = text.replace(found, wanted)
    return text


def with_placeholder(data: bytes) -> PhraseTokenizer:
    """Return a published vocabulary with the placeholder of de-identified text as one more, last token.

    Without it a placeholder would be spelt in pieces that nobody could keep a draft from repeating.

    Raises:
        ModelError: The bytes are no vocabulary of a language model.
    """
    if PhraseTokenizer(data).placeholder_id >= 0:
        return PhraseTokenizer(data)
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.add_special_tokens([PLACEHOLDER_TOKEN])
    return PhraseTokenizer(tokenizer.to_str().encode())


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PhraseTokenizer:
    """Learn a vocabulary from training phrases; the same phrases in the same order give the same bytes.

    Args:
        texts: Phrases.
        vocab_size: Most tokens it may have, at least 300; fewer where the phrases do not need that many.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_TOKEN, PLACEHOLDER_TOKEN],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PhraseTokenizer(tokenizer.to_str().encode())
