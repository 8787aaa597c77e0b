"""Commands about what was written before: gc, reidentify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from crrg.cli.nights import InboxOption, absolute
from crrg.cli.running import RootOption, execute

if TYPE_CHECKING:
    from crrg.operations.gc import Garbage
    from crrg.operations.reidentify import Source


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (gc, reidentify):
        app.command()(command)


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    min_age_h: Annotated[float, typer.Option("--min-age-h", help="Younger objects stay, hours.")] = 24.0,
    root: RootOption = "",
) -> None:
    """Remove what no manifest names: left-overs of runs that were stopped."""
    from crrg.operations.gc import collect_garbage

    execute(root, lambda storage, _settings: collect_garbage(storage, min_age_h=min_age_h, remove=yes), _shown)


def reidentify(
    inbox: InboxOption,
    ids: Annotated[list[str], typer.Argument(help="Pseudonyms of patients, studies, images or objects.")],
    root: RootOption = "",
) -> None:
    """Find the source of pseudonyms; the question is audited, the answer is printed and stored nowhere."""
    from crrg.data.deidentify import Pseudonyms
    from crrg.operations.reidentify import reidentify as find_sources

    execute(
        root,
        lambda storage, settings: find_sources(absolute(inbox), ids, storage, Pseudonyms(settings.pseudonym_key())),
        _sources_shown,
        lambda found: 0 if {each.pseudonym for each in found} == set(ids) else 1,
    )


def _shown(garbage: Garbage) -> str:
    verb = "removed" if garbage.is_removed else "would be removed; --yes does it" if garbage.objects else "to remove"
    young = f"; {garbage.num_young} younger ones stay" if garbage.num_young else ""
    lines = [f"{len(garbage.objects)} objects ({garbage.num_bytes / 2**20:.1f} MB) {verb}{young}"]
    return "\n".join([*lines, *(f"  {stored.key}" for stored in garbage.objects[:20])])


def _sources_shown(found: list[Source]) -> str:
    from crrg.operations.summaries import table

    if not found:
        return "nothing in this inbox belongs to these pseudonyms under this secret"
    header = ("pseudonym", "kind", "file", "PatientID", "StudyInstanceUID", "accession number")
    rows = [
        (each.pseudonym, each.kind, each.file, each.patient_id, each.study_uid, each.accession_number) for each in found
    ]
    return table(header, rows)
