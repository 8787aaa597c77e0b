"""Values as the scripts of a page read them."""

from __future__ import annotations

import json
from typing import Any


def script_text(value: Any) -> str:
    """Return a value as a script reads it; no character of it can end a script element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
