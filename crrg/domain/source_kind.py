"""The kinds of archives that ingest can read; here, low down, because forms and the command line offer the same list.

Another archive is one entry here and one file in ``crrg.data.archives``, whose ``source_kinds`` says how it is named.
"""

from __future__ import annotations

from enum import StrEnum

AUTO = "auto"
"""Choice of a form: look at what lies there."""


class SourceKind(StrEnum):
    """Kinds of archives, in the order in which they are tried on an unknown one; ``folder`` takes whatever is left."""

    PHANTOM = "phantom"
    OPENI = "openi"
    RSNA = "rsna"
    CHEXPERT = "chexpert"
    CHEST_IMAGENOME = "chest-imagenome"
    MIMIC_CXR = "mimic-cxr"
    FOLDER = "folder"


SOURCE_CHOICES: tuple[str, ...] = (AUTO, *sorted(SourceKind))
"""What a person may choose, as text."""
