"""Application entity titles: by what archives and those who send to them know each other.

Source: DICOM PS3.5 section 6.2 (value representation AE).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_PATTERN = r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$"
"""Printable ASCII without backslash, not blanks alone."""


def _check_title(value: Any) -> Any:
    """Refuse what is no title before the pattern does, which would only show itself."""
    if isinstance(value, str) and (len(value) > 16 or not re.fullmatch(_PATTERN, value)):
        raise ValueError(
            "not an AE title: it has 1 to 16 printable ASCII characters, no backslash, and not only blanks"
        )
    return value


AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=_PATTERN), BeforeValidator(_check_title)]
"""An AE title of a form."""
