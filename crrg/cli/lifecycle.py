"""Commands about what was written before: gc, reidentify, forget, rekey, backup, restore."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from crrg.cli.running import InboxOption, RootOption, absolute, execute, exits

if TYPE_CHECKING:
    from crrg.config.base import Settings
    from crrg.operations.privacy.forget import Forgetting
    from crrg.operations.privacy.reidentify import Source
    from crrg.operations.privacy.rekey import Rekeyed
    from crrg.operations.privacy.retention import Expired
    from crrg.operations.upkeep.backup import Copied
    from crrg.operations.upkeep.gc import Garbage
    from crrg.storage import Storage

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only list what would be done; change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (gc, reidentify, forget, rekey, backup, restore):
        app.command()(command)


def gc(
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    min_age_h: Annotated[float, typer.Option("--min-age-h", help="Keep objects younger than this many hours.")] = 24.0,
    results_older_than: Annotated[
        int | None, typer.Option("--results-older-than", help="Also drafts of nights older than this many days.")
    ] = None,
    with_newest: Annotated[
        bool, typer.Option("--with-newest", help="From old nights, also drafts that are the newest of their study.")
    ] = False,
    root: RootOption = "",
) -> None:
    """Remove what no manifest names, and where asked drafts of old nights; objects read stay known."""
    from crrg.errors import ConfigError
    from crrg.operations.privacy.retention import expire_results
    from crrg.operations.upkeep.gc import collect_garbage

    if with_newest and results_older_than is None:
        with exits():
            raise ConfigError("it says which drafts of old nights go; give --results-older-than, too", "--with-newest")
    is_to_remove = _is_meant(
        "Remove for good what no commit names, and the drafts that the options name?", dry_run=dry_run, yes=yes
    )

    def collect(storage: Storage, _settings: Settings) -> tuple[Expired | None, Garbage]:
        expired = None
        if results_older_than is not None:
            expired = expire_results(storage, results_older_than, with_newest=with_newest, remove=is_to_remove)
        return expired, collect_garbage(storage, min_age_h=min_age_h, remove=is_to_remove)

    def shown(found: tuple[Expired | None, Garbage]) -> str:
        expired, garbage = found
        return "\n".join([*_expired_shown(expired), _shown(garbage), *(expired.old_versions if expired else ())])

    execute(root, collect, shown, needs_root=True)


def reidentify(
    inbox: InboxOption,
    ids: Annotated[list[str], typer.Argument(help="Pseudonyms of patients, studies, images, objects or table rows.")],
    root: RootOption = "",
) -> None:
    """Find the source of pseudonyms in an inbox, or of training films and refused inputs in the archive of an ingest.

    The question is audited, the answer is printed and stored nowhere.
    """
    from crrg.data.privacy.deidentify import Pseudonyms
    from crrg.operations.privacy.reidentify import reidentify as find_sources

    execute(
        root,
        lambda storage, settings: find_sources(absolute(inbox), ids, storage, Pseudonyms(settings.pseudonym_key())),
        _sources_shown,
        lambda found: int({each.pseudonym for each in found} != set(ids) or any(each.reason for each in found)),
        needs_root=True,
    )


def forget(
    ids: Annotated[list[str], typer.Argument(help="Pseudonyms of patients, or of their studies, images or objects.")],
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    root: RootOption = "",
) -> None:
    """Remove patients everywhere: datasets, nights, pages, delivered documents; lists models trained on them."""
    from crrg.operations.privacy.forget import forget as forget_patients
    from crrg.working_folder import clear_left_folders

    remove = _is_meant(f"Remove everything of the patients of these {len(ids)} ids for good?", dry_run=dry_run, yes=yes)

    def remove_patients(storage: Storage, settings: Settings) -> Forgetting:
        found = forget_patients(ids, storage, settings, remove=remove)
        clear_left_folders(remove=remove)
        return found

    execute(root, remove_patients, _forgetting_shown, needs_root=True)


def rekey(
    inbox: Annotated[
        list[str], typer.Option("--inbox", help="Folder or URL of an inbox that nights read; give all of them.")
    ],
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave out what is no longer in the inbox.")
    ] = False,
    root: RootOption = "",
) -> None:
    """Write all nights again under a new pseudonym secret: $CRRG_OLD_HMAC_KEY to $CRRG_HMAC_KEY; drafts stay."""
    from crrg.data.privacy.deidentify import Pseudonyms
    from crrg.operations.privacy.rekey import rekey as change_secret

    do = _is_meant("Write all nights again under the new secret?", dry_run=dry_run, yes=yes)

    def change(storage: Storage, settings: Settings) -> Rekeyed:
        old, new = Pseudonyms(settings.old_pseudonym_key()), Pseudonyms(settings.pseudonym_key())
        return change_secret([absolute(each) for each in inbox], storage, old, new, drop_missing=drop_missing, do=do)

    execute(root, change, _rekeyed_shown, needs_root=True)


def _is_meant(question: str, *, dry_run: bool, yes: bool) -> bool:
    """Return whether something is to be done that nothing undoes: on a terminal it is asked, a program means it.

    Raises:
        typer.Abort: A person said no; the command ends with 1.
    """
    if dry_run or yes or sys.stdin is None or not sys.stdin.isatty():
        return not dry_run
    return typer.confirm(f"{question} --dry-run shows what that is", abort=True, err=True)


def _rekeyed_shown(rekeyed: Rekeyed) -> str:
    verb = "rewritten" if rekeyed.is_done else "would be rewritten"
    lines = [f"{rekeyed.num_nights} nights with {rekeyed.num_rows} objects {verb}"]
    if rekeyed.num_missing:
        lines.append(f"{rekeyed.num_missing} objects are not in the inboxes as they were; "
                     "--drop-missing leaves them out")  # fmt: skip
    if rekeyed.num_lost_tombstones:
        lines.append(f"{rekeyed.num_lost_tombstones} forgotten patients could not be carried over, since no night read "
                     "a film of theirs that is in the inboxes; ingests and nights that still get the old secret as "
                     "CRRG_OLD_HMAC_KEY refuse one that arrives, others take it")  # fmt: skip
    return "\n".join(lines)


def backup(
    destination: Annotated[str, typer.Argument(help="Folder or URL: empty, or with an earlier backup.")],
    root: RootOption = "",
) -> None:
    """Copy the root elsewhere: what manifests name, ledger, audit, aliases, models; a second time only what is new."""
    from crrg.operations.upkeep.backup import back_up

    execute(root, lambda storage, _settings: back_up(storage, absolute(destination)), _copied_shown, needs_root=True)


def restore(
    source: Annotated[str, typer.Argument(help="Folder or URL of a backup.")],
    root: RootOption = "",
) -> None:
    """Copy a backup into an empty root, every object verified by its digest."""
    from crrg.operations.upkeep.backup import restore as restore_root

    execute(root, lambda storage, _settings: restore_root(storage, absolute(source)), _copied_shown)


def _copied_shown(copied: Copied) -> str:
    removed = f", {copied.num_removed} old ones removed" if copied.num_removed else ""
    return f"{copied.num_objects} objects ({copied.num_bytes / 2**20:.1f} MB), {copied.num_copied} copied now{removed}"


def _expired_shown(expired: Expired | None) -> list[str]:
    if expired is None:
        return []
    verb = "removed" if expired.is_removed else "would be removed" if expired.nights else "to remove"
    lines = [f"{len(expired.nights)} nights, {expired.num_drafts} drafts {verb}"]
    if expired.num_newest:
        lines.append(f"  for {expired.num_newest} studies these are the newest drafts")
    if expired.kept_nights:
        lines.append(f"{len(expired.kept_nights)} old nights are kept: they hold the newest drafts of "
                     f"{expired.num_newest_kept} studies; --with-newest removes them too")  # fmt: skip
    return lines


def _forgetting_shown(found: Forgetting) -> str:
    if not found.num_patients and not found.num_objects:
        return "already forgotten: nothing is left of these patients, and their films are refused"
    verb = "removed" if found.is_removed else "would be removed"
    lone = f", {found.num_objects} objects of unknown patients" if found.num_objects else ""
    lines = [f"{found.num_patients} patients, {found.num_studies} studies, {found.num_images} images{lone} {verb}"]
    if found.num_forgotten_before:
        lines.append(f"  {found.num_forgotten_before} of these ids were forgotten before")
    lines += [f"  dataset {name}: {rows} rows" for name, rows in found.dataset_rows.items()]
    lines += [f"  night {name}: {drafts} drafts" for name, drafts in found.night_drafts.items()]
    if found.num_withdrawn or found.num_delivered:
        what = f"{found.num_withdrawn} objects withdrawn" if found.is_removed else f"{found.num_delivered} studies"
        lines.append(f"  identified zone: {what}")
    if found.num_pictures:
        lines.append(f"  tracked runs: {found.num_pictures} pictures")
    if found.num_private_runs:
        lines.append(f"  private orchestrator: {found.num_private_runs} records")
    if found.num_sent:
        lines.append(
            f"{found.num_sent} objects of these studies were sent to an archive; delete there what it accepted."
        )
    if found.num_sent_before:
        lines.append(f"Before the secret was changed, {found.num_sent_before} objects were sent to an archive; whose "
                     "they are is not known: look there for these patients as well.")  # fmt: skip
    if found.models:
        lines += [
            "Trained on data that included these patients, and not changed:",
            *(f"  {name}" for name in found.models),
        ]
    lines += found.old_versions
    return "\n".join(lines)


def _shown(garbage: Garbage) -> str:
    is_anything = garbage.objects or garbage.uploads or garbage.num_folders
    verb = "removed" if garbage.is_removed else "would be removed" if is_anything else "to remove"
    young = f"; {garbage.num_young} younger ones are kept" if garbage.num_young else ""
    lines = [f"{len(garbage.objects)} objects ({garbage.num_bytes / 2**20:.1f} MB) {verb}{young}"]
    if garbage.uploads:
        done = "aborted" if garbage.is_removed else "would be aborted"
        lines.append(f"{len(garbage.uploads)} unfinished uploads {done}")
    if garbage.num_folders:
        lines.append(f"{garbage.num_folders} folders of killed processes among temporary files {verb}")
    return "\n".join([*lines, *(f"  {stored.key}" for stored in garbage.objects[:20])])


def _sources_shown(found: list[Source]) -> str:
    from crrg.operations.summaries import table

    if not found:
        return "nothing in this inbox belongs to these pseudonyms under this secret"
    header = ("pseudonym", "kind", "file", "PatientID", "StudyInstanceUID", "accession number")
    rows = [
        (each.pseudonym, each.kind, each.file, each.patient_id, each.study_uid, each.accession_number) for each in found
    ]
    kept_back = [
        f"{each.file} could not be read ({each.reason}); ask again when it can be" for each in found if each.reason
    ]
    return "\n".join([table(header, rows), *dict.fromkeys(kept_back)])
