"""What is said of a draft that a newer one replaced: by the page's script, and by a note beside the study's documents.

The draft itself stays as it was written. Which drafts are replaced, and where this is put, is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from crrg.exports.script_text import script_text

SUPERSEDED_FILE = "superseded.js"
"""Which drafts newer ones replaced: the one file of the page that is written again when it is known."""
NOTE_FILE = "report.superseded.txt"
"""Beside a study's documents once a newer run has a draft of it."""
_SCRIPT = re.compile(r'window\.CRRG_SUPERSEDED=(\{.*\});\n(?:window\.CRRG_LIST="[\w.]+";\n)?')


class Replacement(NamedTuple):
    """The run whose draft replaced an older one of the same film.

    Attributes:
        date: Its night, ``YYYY-MM-DD``.
        run_id: The run.
        page: Key of its page in the root; empty where it has none.
    """

    date: str
    run_id: str
    page: str


def newer_draft(instance_ids: Iterable[str], replaced: Mapping[str, Replacement]) -> Replacement | None:
    """Return what replaced the draft of a study, or ``None`` while it is the latest.

    Args:
        instance_ids: The study's films, the primary one first.
        replaced: What replaced the draft of a film, by ``instance_id``.
    """
    return next((replaced[name] for name in instance_ids if name in replaced), None)


def superseded_script(replaced: Mapping[str, Replacement], list_name: str = "") -> bytes:
    """Return the script by which a page knows which of its drafts newer ones replaced.

    Args:
        replaced: What replaced the draft of a film, by ``instance_id``.
        list_name: Name of the work list that says the same; the usual one if empty.
    """
    text = f"window.CRRG_SUPERSEDED={script_text({name: list(each) for name, each in sorted(replaced.items())})};\n"
    return (text + (f"window.CRRG_LIST={script_text(list_name)};\n" if list_name else "")).encode()


def read_superseded(script: bytes) -> dict[str, Replacement]:
    """Return what such a script says.

    Raises:
        ValueError: It is none.
    """
    found = _SCRIPT.fullmatch(script.decode())
    if found is None:
        raise ValueError("no script of superseded drafts")
    return {str(name): Replacement(*map(str, each)) for name, each in dict(json.loads(found[1])).items()}


def study_note(study_id: str, newer: Replacement) -> bytes:
    """Return the note that lies beside a study's documents once a newer run has a draft of it."""
    return (
        f"SUPERSEDED - the report beside this note is an older draft of study {study_id}.\n"
        f"Night {newer.date} replaced it; the newer draft is of run {newer.run_id}:\n"
        f"results/date={newer.date}/run={newer.run_id}/documents/{study_id}/\n"
    ).encode()
