"""Commands about models: train, retrain, bundle, evaluate, promote, import, radgraph-f1."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crrg.cli.running import (
    DirectOption,
    FileOption,
    ModelOption,
    RootOption,
    execute,
    exits,
    flags_of,
    form,
    results_place,
    through_prefect,
    use_root,
)
from crrg.cli.terminal import aligned, log_lines

if TYPE_CHECKING:
    from crrg.config.base import Settings
    from crrg.storage import Storage

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Dataset to use.", show_default="demo")]
VersionOption = Annotated[str | None, typer.Option("--dataset-version", help="Its version; the newest if not given.")]
PresetOption = Annotated[str | None, typer.Option("--preset", help="tiny, small or base.", show_default="tiny")]
StepsOption = Annotated[int | None, typer.Option("--num-steps", help="Steps per stage; the preset's if 0.")]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="Recipe: crrg, or paper for the published networks and training.", show_default="crrg"
    ),
]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="Peak learning rate; the preset's if 0.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of weights and order.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.", show_default="auto")]
RoundsOption = Annotated[
    int | None,
    typer.Option("--rounds", help="Maximum number of joint rounds; 0 is the paper's coupling of the joint stage."),
]
StartOption = Annotated[
    str | None, typer.Option("--initial-weights", help="Folder of `crrg import` that this stage starts from.")
]
TextStartOption = Annotated[
    str | None, typer.Option("--initial-text-weights", help="Folder of `crrg import bert` for the text tower of clip.")
]
FreezeOption = Annotated[
    bool | None, typer.Option("--freeze-language-model", help="Leave the imported language model as it is.")
]
RanksOption = Annotated[
    int | None,
    typer.Option(
        "--num-ranks", help="Processes that train together, one GPU each; for detector and clip.", show_default="1"
    ),
]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="exact, or fast: rounded weights, if their drafts are as good.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (train, retrain, bundle, evaluate, promote):
        app.command()(command)
    app.command("import")(import_checkpoint)
    app.command("radgraph-f1")(radgraph_f1)


def train(
    stage: Annotated[str, typer.Argument(help="detector, selector, generator, clip or joint.")],
    dataset: DatasetOption = None,
    dataset_version: VersionOption = None,
    preset: PresetOption = None,
    num_steps: StepsOption = None,
    learning_rate: RateOption = None,
    seed: SeedOption = None,
    rounds: RoundsOption = None,
    device: DeviceOption = None,
    recipe: RecipeOption = None,
    initial_weights: StartOption = None,
    initial_text_weights: TextStartOption = None,
    freeze_language_model: FreezeOption = None,
    num_ranks: RanksOption = None,
    config: FileOption = None,
    root: RootOption = "",
) -> None:
    """Train one stage; the stages it stands on are reused or trained first."""
    from crrg.config.base import TRAINABLE
    from crrg.config.training import TrainStageConfig
    from crrg.operations.summaries import stage_markdown
    from crrg.operations.training.train import train_stage

    if stage not in TRAINABLE:
        raise typer.BadParameter(f"{stage!r} is not a stage; one of {', '.join(TRAINABLE)}")
    filled = form(
        TrainStageConfig, config, dataset=dataset, dataset_version=dataset_version, preset=preset, num_steps=num_steps,
        learning_rate=learning_rate, seed=seed, device=device, rounds=rounds_of(rounds), recipe=recipe,
        num_ranks=num_ranks,
        initial_weights=starts_of(stage, initial_weights, initial_text_weights, freeze_language_model),
    )  # fmt: skip
    execute(
        root,
        lambda storage, settings: train_stage(stage, filled, storage, settings),
        stage_markdown,
    )


def rounds_of(max_rounds: int | None) -> dict[str, int] | None:
    """Return the part of a form that says how many joint rounds there are; ``None`` where no flag was given."""
    return None if max_rounds is None else {"max_rounds": max_rounds}


def starts_of(
    stage: str, folder: str | None, text_folder: str | None, freeze: bool | None
) -> dict[str, str | bool] | None:
    """Return the part of a form that says what a stage starts from; ``None`` where no flag was given."""
    flags = {
        "clip" if stage == "joint" else stage: folder,
        "text_tower": text_folder,
        "freeze_language_model": freeze,
    }
    return {name: value for name, value in flags.items() if value is not None} or None


def import_checkpoint(
    kind: Annotated[
        str,
        typer.Argument(
            help="Its kind: rgrg, cxr-clip, chexzero, chexbert, radgraph, resnet50, gpt2, bert, sentence-encoder."
        ),
    ],
    checkpoint: Annotated[Path, typer.Argument(help="Its file or folder, as downloaded.")],
    out: Annotated[str, typer.Option("--out", help="Output folder: one folder per stage, and the key report.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Its vocabulary: tokenizer.json, BERT's vocab.txt, or CLIP's list of merges."),
    ] = None,
    root: RootOption = "",
) -> None:
    """Import a published checkpoint into our layout, strictly, with a report of every key; says its licence first."""
    from crrg.operations.registry import importing

    use_root(root)
    place = results_place(out)
    with exits():
        typer.echo(f"Licence of these weights: {importing.licence_of(kind)}.", err=True)
        with log_lines():
            report = importing.import_checkpoint(kind, checkpoint, Path(place), tokenizer)
        typer.echo(importing.import_markdown(report))


def retrain(
    dataset: DatasetOption = None,
    dataset_version: VersionOption = None,
    preset: PresetOption = None,
    num_steps: StepsOption = None,
    learning_rate: RateOption = None,
    seed: SeedOption = None,
    joint: Annotated[
        bool | None, typer.Option("--joint/--no-joint", help="Train CLIP once more, with drafts of training films.")
    ] = None,
    rounds: RoundsOption = None,
    recipe: RecipeOption = None,
    device: DeviceOption = None,
    config: FileOption = None,
    no_orchestrator: DirectOption = False,
    root: RootOption = "",
) -> None:
    """Train all stages, score and register their bundle, and promote it if it passes its gate."""
    from crrg.config.running import RetrainConfig

    filled = form(
        RetrainConfig, config, dataset=dataset, dataset_version=dataset_version, preset=preset, num_steps=num_steps,
        learning_rate=learning_rate, seed=seed, joint=joint, device=device, rounds=rounds_of(rounds),
        recipe=recipe,
    )  # fmt: skip
    if not no_orchestrator:
        through_prefect("retrain", filled, root, needs_root=True, needs_secret=False)
    from crrg.operations.summaries import retrain_markdown
    from crrg.operations.training import retrain as operation

    execute(root, lambda storage, settings: operation.retrain(filled, storage, settings), retrain_markdown)


def bundle(
    parts: Annotated[
        list[str] | None,
        typer.Option("--from", help="Folder of `crrg import`, or checkpoints/… of a training; repeatable."),
    ] = None,
    dataset: DatasetOption = None,
    dataset_version: VersionOption = None,
    register_candidate: Annotated[
        bool | None, typer.Option("--register", help="Also score it, check the gate and register it as a candidate.")
    ] = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    config: FileOption = None,
    root: RootOption = "",
) -> None:
    """Put imported and trained parts together as a bundle; prints the folder that --model takes."""
    from crrg.config.bundling import BundleConfig
    from crrg.operations.registry.make_bundle import MadeBundle, make_bundle

    filled = form(
        BundleConfig, config, parts=parts or None, dataset=dataset, dataset_version=dataset_version,
        register_candidate=register_candidate, device=device, decoding=flags_of(precision=precision),
    )  # fmt: skip
    execute(root, lambda storage, settings: make_bundle(filled, storage, settings), MadeBundle.to_markdown)


def evaluate(
    dataset: DatasetOption = None,
    dataset_version: VersionOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="train, validation or test.", show_default="test")
    ] = None,
    model: ModelOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Maximum number of films; all if 0.")] = None,
    device: DeviceOption = None,
    chexbert: Annotated[
        str | None, typer.Option("--chexbert", help="Folder of `crrg import chexbert`: adds its clinical figures.")
    ] = None,
    radgraph: Annotated[
        str | None, typer.Option("--radgraph", help="Folder of `crrg import radgraph`: adds RadGraph F1.")
    ] = None,
    meteor_jar: Annotated[
        str | None, typer.Option("--meteor-jar", help="Path of meteor-1.5.jar, which needs Java: adds METEOR 1.5.")
    ] = None,
    config: FileOption = None,
    root: RootOption = "",
) -> None:
    """Score a model on a part of a dataset; prints the scorecard, each figure beside its baseline."""
    from crrg.config.running import EvaluateConfig
    from crrg.operations.scoring import evaluate as operation

    filled = form(
        EvaluateConfig, config, dataset=dataset, dataset_version=dataset_version, split=split, model=model,
        limit=limit, device=device, chexbert=chexbert, radgraph=radgraph, meteor_jar=meteor_jar,
    )  # fmt: skip

    def run(storage: Storage, settings: Settings) -> str:
        result = operation.evaluate(filled, storage, settings)
        scorecard = operation.read_scorecard(result, storage).to_markdown()
        return f"{scorecard}\n\nWhole scorecard: `{result.scorecard_key}`"

    execute(root, run, str)


def radgraph_f1(
    drafts: Annotated[Path, typer.Argument(help="RadGraph's annotations of drafts: JSON as it publishes them.")],
    reports: Annotated[Path, typer.Argument(help="The same of the reference reports, under the same keys.")],
    patients: Annotated[
        Path | None, typer.Option("--patients", help="JSON of key to patient, for the intervals.")
    ] = None,
    root: RootOption = "",
) -> None:
    """Score annotations that RadGraph made elsewhere; prints the three levels with 95 % intervals."""
    from crrg.operations.scoring.radgraph import score_annotations

    use_root(root)
    with exits():
        typer.echo(aligned(score_annotations(drafts, reports, patients).to_markdown()))


def promote(
    version: Annotated[int, typer.Argument(help="Registered version of crrg-pipeline.", show_default=False)] = 0,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the previous champion.")] = False,
    root: RootOption = "",
) -> None:
    """Make a version that has passed its gate the champion, or move back."""
    from crrg.config.running import PromoteConfig
    from crrg.operations.registry import promote as operation
    from crrg.operations.summaries import promotion_markdown

    filled = form(PromoteConfig, version=version, rollback=rollback)
    execute(root, lambda storage, settings: operation.promote(filled, storage, settings), promotion_markdown)
