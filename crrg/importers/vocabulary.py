"""Whether a vocabulary belongs to the network beside which it is imported."""

from __future__ import annotations

from crrg.errors import ModelError


def check_vocabulary(num_tokens: int, num_rows: int, network: str, way_out: str = "") -> None:
    """Check that a network has a row for each token of a vocabulary.

    Args:
        num_tokens: Tokens of the vocabulary.
        num_rows: Rows of the network's table of tokens.
        network: What to call the network.
        way_out: Where the right vocabulary is found; that of the checkpoint if empty.

    Raises:
        ModelError: The two numbers differ.
    """
    if num_tokens != num_rows:
        raise ModelError(
            f"the vocabulary has {num_tokens} tokens, the {network} {num_rows}; "
            f"{way_out or 'give the one that belongs to the checkpoint with --tokenizer'}",
            "tokenizer",
        )
