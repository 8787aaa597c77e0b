from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from crrg.domain import sentences

_PIECES = st.sampled_from(
    [".", "!", "...", " ", "\n", "\n\n", "\u2003", "\x1c", "(", "1", "12", "a", "B", "cm", "vs", "e.g", "-"]
)


def _last_token_by_pattern(before: str) -> tuple[str, str] | None:
    """Return what stands before the last token and the token, by the rule as it was first written."""
    found = re.search(r"(\S+)$", before)
    return None if found is None else (before[: found.start()], found.group(1))


@given(st.lists(_PIECES, max_size=12).map("".join), st.sampled_from([" a", " A", "\n", ""]))
def test_a_full_stop_ends_a_sentence_by_the_token_before_it(before: str, after: str) -> None:
    last = _last_token_by_pattern(before)
    ends = sentences._ends_sentence(before, ".", after)
    if last is None:
        assert not ends
        return
    head, token = last[0], last[1].lower().lstrip("(")
    is_marker = token.isdigit() and len(token) <= 2 and not head.strip()
    is_open = token in sentences._UNITS and re.match(r"\s+[a-z]", after) is not None
    assert ends == (not (is_marker or is_open or token in sentences._ABBREVIATIONS))
