"""Commands about data: demo, phantom, ingest, ground."""

from __future__ import annotations

from typing import Annotated

import typer

from crrg.cli.running import (
    DirectOption,
    FileOption,
    RayOption,
    RootOption,
    RunnerOption,
    absolute,
    execute,
    exits,
    fan_out_of,
    form,
    ingest_code,
    through_prefect,
    use_root,
)
from crrg.cli.terminal import log_lines
from crrg.domain.source_kind import SOURCE_CHOICES


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (demo, phantom, ingest, ground):
        app.command()(command)


def demo(
    studies: Annotated[
        int | None, typer.Option("--studies", help="Drawn studies to train on.", show_default="1600")
    ] = None,
    fresh: Annotated[
        int | None, typer.Option("--fresh", help="Drawn studies for the night.", show_default="200")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of drawings and training.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="tiny, small or base.", show_default="tiny")] = None,
    num_steps: Annotated[int | None, typer.Option("--num-steps", help="Steps per stage; the preset's if 0.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.", show_default="auto")] = None,
    no_orchestrator: DirectOption = False,
    root: RootOption = "",
) -> None:
    """Draw a cohort, train every stage, promote the bundle, run a night over fresh studies, print the scorecard."""
    from crrg.config.running import DemoConfig
    from crrg.operations.root import make_demo_root

    filled = form(
        DemoConfig, num_studies=studies, num_fresh_studies=fresh, seed=seed, preset=preset, num_steps=num_steps,
        device=device,
    )  # fmt: skip
    use_root(root)
    with exits(), log_lines():
        make_demo_root()
    if not no_orchestrator:
        through_prefect("demo", filled, root)
    from crrg.cli.endings import ENDINGS
    from crrg.operations.demo_run import run_demo

    execute(root, lambda storage, settings: run_demo(filled, storage, settings), ENDINGS["demo"].render)


def phantom(
    out: Annotated[str, typer.Argument(help="Folder or URL to write the drawn cohort to.")],
    studies: Annotated[int, typer.Option("--studies", help="How many studies.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the cohort.")] = 0,
    size: Annotated[int, typer.Option("--size", help="Longer side of the films, pixels.")] = 512,
    reports: Annotated[str | None, typer.Option("--reports", help="Open-i table to draw pictures for.")] = None,
    root: RootOption = "",
) -> None:
    """Draw a cohort: DICOM films, reports, scene graphs and the truth."""
    from crrg.config.base import default_num_workers
    from crrg.operations.phantom import draw_phantom

    place = absolute(out)
    execute(
        root,
        lambda _storage, _settings: draw_phantom(place, studies, seed, size, reports, workers=default_num_workers()),
        lambda num_studies: f"{num_studies} drawn studies in {out}",
    )


def ingest(
    source: Annotated[list[str], typer.Argument(help="Folders or URLs of archives, or KIND:URL.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Name of the dataset.")],
    source_kind: Annotated[
        str | None, typer.Option("--source", help=f"One of {', '.join(SOURCE_CHOICES)}.", show_default="auto")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="Longest stored side, pixels.", show_default="512")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the split.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Maximum number of inputs per source; all if 0.")] = None,
    grounding: Annotated[
        str | None, typer.Option("--grounding", help="auto, phrases or off.", show_default="auto")
    ] = None,
    languages: Annotated[
        str | None, typer.Option("--languages", help="Languages of reports, like en,de.", show_default="en")
    ] = None,
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="The pseudonym secret was changed: versions made with the old one go.")
    ] = False,
    forgotten_may_return: Annotated[
        bool, typer.Option("--forgotten-may-return", help="Go on although patients were forgotten under a lost secret.")
    ] = False,
    task_runner: RunnerOption = None,
    ray_address: RayOption = None,
    config: FileOption = None,
    root: RootOption = "",
) -> None:
    """Turn archives into one version of a dataset; what cannot be used is quarantined with a reason.

    With a --task-runner other than here, shards are decoded beforehand where it says, through Prefect.
    """
    from crrg.config.data import IngestConfig
    from crrg.operations.ingest import ingest as operation
    from crrg.operations.summaries import ingest_markdown

    filled = form(
        IngestConfig, config, source=tuple(source), dataset=dataset, source_kind=source_kind, image_size=image_size,
        seed=seed, limit=limit, grounding=grounding, languages=languages, fan_out=fan_out_of(task_runner, ray_address),
        new_secret=new_secret or None, forgotten_may_return=forgotten_may_return or None,
    )  # fmt: skip
    if filled.fan_out.task_runner != "here":
        through_prefect("ingest", filled, root)
    execute(
        root,
        lambda storage, settings: operation.ingest_as_set(filled, storage, settings),
        ingest_markdown,
        ingest_code,
    )


def ground(
    dataset: Annotated[str, typer.Option("--dataset", help="Dataset whose films need regions.")],
    dataset_version: Annotated[
        str | None, typer.Option("--dataset-version", help="Version; newest if not given.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Bundle whose detector to use: alias, version or folder.",
            show_default="models:/crrg-pipeline@champion",
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", help="Lowest score at which a box is kept.", show_default="0.3")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.", show_default="auto")] = None,
    config: FileOption = None,
    root: RootOption = "",
) -> None:
    """Find the regions of a dataset's films with a trained detector and tie their reports to them."""
    from crrg.config.running import GroundConfig
    from crrg.operations.ingest import ground as operation
    from crrg.operations.summaries import grounding_markdown

    filled = form(
        GroundConfig, config, dataset=dataset, dataset_version=dataset_version, model=model, min_score=min_score,
        device=device,
    )  # fmt: skip
    execute(
        root,
        lambda storage, settings: operation.ground(filled, storage, settings),
        grounding_markdown,
    )
