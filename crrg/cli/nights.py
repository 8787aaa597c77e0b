"""Commands about nights: nightly, predict, zero-shot, deliver, outcomes, digest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crrg.cli.running import (
    DateOption,
    DirectOption,
    FileOption,
    InboxOption,
    ModelOption,
    RayOption,
    RootOption,
    RunnerOption,
    absolute,
    execute,
    exits,
    fan_out_of,
    flags_of,
    form,
    results_place,
    through_prefect,
)
from crrg.termination import EXIT_TOO_MANY_QUARANTINED

if TYPE_CHECKING:
    from crrg.config.base import Settings
    from crrg.operations.predict import PredictSummary
    from crrg.storage import Storage

Device = Literal["auto", "cpu", "cuda"]

DriftOption = Annotated[
    str | None,
    typer.Option(
        "--drift",
        help="If a night differs from the training data: off, warn or stop (not delivered).",
        show_default="warn",
    ),
]
DegenerateOption = Annotated[
    str | None,
    typer.Option(
        "--degenerate", help="If drafts are all alike, empty or repetitive: refuse or publish.", show_default="refuse"
    ),
]
EvidenceOption = Annotated[
    bool, typer.Option("--evidence", help="Also map the evidence for sentences, abnormal ones first; takes longer.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (nightly, predict, zero_shot, deliver, outcomes, digest):
        app.command()(command)


def nightly(
    inbox: InboxOption,
    date: Annotated[str | None, typer.Option("--date", help="The night, YYYY-MM-DD; today if not given.")] = None,
    model: ModelOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Maximum number of new objects; all if 0.")] = None,
    settle_s: Annotated[
        float | None, typer.Option("--settle-s", help="Objects younger than this many seconds wait.", show_default="60")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.", show_default="auto")] = None,
    task_runner: RunnerOption = None,
    ray_address: RayOption = None,
    reread_date: Annotated[
        str | None, typer.Option("--reread-date", help="Also read again what this night read with another bundle.")
    ] = None,
    reread_studies: Annotated[
        Path | None,
        typer.Option(
            "--reread-studies",
            exists=True,
            dir_okay=False,
            help="File of study pseudonyms to read again, one per line.",
        ),
    ] = None,
    reread_older_than_bundle: Annotated[
        int | None,
        typer.Option("--reread-older-than-bundle", help="Also read again what model versions below this one drafted."),
    ] = None,
    drift: DriftOption = None,
    degenerate: DegenerateOption = None,
    evidence: EvidenceOption = False,
    config: FileOption = None,
    no_orchestrator: DirectOption = False,
    root: RootOption = "",
) -> None:
    """Draft reports and labels for what is new in the inbox; drafts are for review by a radiologist."""
    from crrg.config.running import NightlyConfig

    filled = form(
        NightlyConfig, config, inbox=absolute(inbox), date=date, model=model, limit=limit, settle_s=settle_s,
        device=device, fan_out=fan_out_of(task_runner, ray_address), reread_date=reread_date,
        reread_studies=_words_of(reread_studies) if reread_studies else None,
        reread_older_than_bundle=reread_older_than_bundle, watch=flags_of(drift=drift, degenerate=degenerate),
    )  # fmt: skip
    if evidence:
        filled = filled.model_copy(update={"evidence": filled.evidence.switched_on()})
    # a registered model's bytes lie in the root
    needs_root = filled.model.startswith("models:") or filled.model.isdecimal()
    if not no_orchestrator:
        through_prefect("nightly", filled, root, needs_root=needs_root)
    from crrg.cli.endings import ENDINGS
    from crrg.operations.night.steps import run_night

    ending = ENDINGS["nightly"]
    execute(
        root,
        lambda storage, settings: run_night(filled, storage, settings),
        ending.render,
        ending.code,
        needs_root=needs_root,
    )


def predict(
    files: Annotated[list[Path], typer.Argument(help="DICOM, PNG or JPEG files.")],
    out: Annotated[str, typer.Option("--out", help="Folder or URL for the results.")],
    model: Annotated[
        str, typer.Option("--model", help="models:/crrg-pipeline@champion, a version like 3, or a bundle folder.")
    ] = "models:/crrg-pipeline@champion",
    device: Annotated[Device, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    evidence: EvidenceOption = False,
    root: RootOption = "",
) -> None:
    """Draft reports for a few files, without ledger."""
    from crrg.config.evidence import EvidenceSettings
    from crrg.operations.predict import predict_with

    place = results_place(out)
    shown = EvidenceSettings().switched_on() if evidence else EvidenceSettings()
    execute(
        root,
        lambda storage, settings: predict_with(files, place, model, device, storage, settings, shown),
        lambda summary: _answers_shown(f"{summary.num_drafted} drafted in {out}", summary.reasons),
        _files_code,
    )


def zero_shot(
    files: Annotated[list[Path], typer.Argument(help="DICOM, PNG or JPEG files.")],
    label: Annotated[list[str], typer.Option("--label", help="A finding in words, like 'pleural plaque'; repeatable.")],
    out: Annotated[str, typer.Option("--out", help="Folder or URL for the results.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="models:/crrg-pipeline@champion (where none is given), a version like 3, a bundle folder, or what "
            "`crrg import cxr-clip|chexzero` wrote; repeatable: the mean of several.",
        ),
    ] = None,
    device: Annotated[Device, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    root: RootOption = "",
) -> None:
    """Ask about any finding in words, by sentences that affirm, deny and leave it open; not calibrated."""
    from crrg.config.running import CHAMPION_MODEL
    from crrg.operations.zero_shot import ask_with

    place = results_place(out)
    execute(
        root,
        lambda storage, settings: ask_with(files, label, place, model or [CHAMPION_MODEL], device, storage, settings),
        lambda summary: _answers_shown(f"films answered: {summary.num_drafted}; see {out}", summary.reasons),
        _files_code,
    )


def deliver(
    inbox: InboxOption,
    date: DateOption = None,
    study: Annotated[
        list[str] | None, typer.Option("--study", help="Only this study, by pseudonym; repeatable.")
    ] = None,
    form_name: Annotated[
        list[str] | None, typer.Option("--form", help="fhir, sr or sc; repeatable.", show_default="fhir,sr,sc")
    ] = None,
    send_to: Annotated[
        str | None, typer.Option("--send-to", help="Archive: host:port, dicoms://host:port or https://…")
    ] = None,
    called: Annotated[
        str | None, typer.Option("--called", help="The archive's AE title.", show_default="ARCHIVE")
    ] = None,
    calling: Annotated[str | None, typer.Option("--calling", help="Our AE title.", show_default="CRRGCLIP")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also deliver what was delivered before.")] = False,
    withheld: Annotated[
        bool, typer.Option("--withheld", help="Also deliver drafts that their night withholds.")
    ] = False,
    config: FileOption = None,
    root: RootOption = "",
) -> None:
    """Write current drafts as FHIR, DICOM SR and Secondary Capture into $CRRG_IDENTIFIED_ROOT, and send them."""
    from crrg.config.running import DeliverConfig
    from crrg.operations.delivery.deliver import deliver as deliver_drafts
    from crrg.operations.delivery.ending import exit_code
    from crrg.operations.summaries import delivery_markdown

    filled = form(
        DeliverConfig, config, inbox=absolute(inbox), date=date, studies=tuple(study) if study else None,
        forms=tuple(form_name) if form_name else None, send_to=send_to, called_title=called, calling_title=calling,
        again=again or None, withheld=withheld or None,
    )  # fmt: skip
    execute(root, partial(deliver_drafts, filled, is_typed=True), delivery_markdown, exit_code, needs_root=True)


def outcomes(
    inbox: InboxOption,
    csv: Annotated[Path | None, typer.Option("--csv", help="File to write to; standard output if not given.")] = None,
    root: RootOption = "",
) -> None:
    """Say of each object of the inbox whether it was accepted, quarantined (why), or is pending."""
    from crrg.data.privacy.deidentify import Pseudonyms
    from crrg.operations.night.outcomes import check_csv, inbox_outcomes, outcomes_csv, write_csv

    def found(storage: Storage, settings: Settings) -> str:
        if csv is not None:
            check_csv(csv)  # before an inbox is listed, which takes its time
        text = outcomes_csv(inbox_outcomes(absolute(inbox), storage, Pseudonyms(settings.pseudonym_key())))
        if csv is None:
            return text.rstrip("\n")
        write_csv(csv, text)
        return f"written to {csv}"

    execute(root, found, str)


def digest(date: DateOption = None, root: RootOption = "") -> None:
    """Print one sha256 over the committed results, sorted, without times and run ids."""
    from crrg.operations.night.digest import committed_digest

    execute(root, lambda storage, _settings: committed_digest(storage, date or ""), str, needs_root=True)


def _answers_shown(first: str, reasons: Mapping[str, str]) -> str:
    why = [f"{name}: {code}; see {name}.json there for the reason" for name, code in reasons.items()]
    return "\n".join([first, *why])


def _files_code(summary: PredictSummary) -> int:
    return EXIT_TOO_MANY_QUARANTINED if summary.exceeds_failure_rate else 0


def _words_of(file: Path) -> tuple[str, ...]:
    from crrg.errors import ConfigError

    with exits():
        try:
            return tuple(file.read_text().split())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot be read as text ({type(error).__name__}); write one id per line", str(file)
            ) from error
