"""What a person reads when something ended: short Markdown of results, the same on a terminal and in the web pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from crrg.config.references import (
    DatasetRef,
    DeliverySummary,
    EvaluationResult,
    IngestSummary,
    NightPlan,
    NightSummary,
    PromotionResult,
    RetrainResult,
    ShardResult,
    StagedShard,
    StageResult,
)
from crrg.operations.stop import WAY_OUT
from crrg.registry.gate import CLINICAL_F1, LABEL_AUC, REGION_IOU, ZERO_SHOT_AUC
from crrg.termination import EXIT_TOO_MANY_QUARANTINED

WHY_PENDING = (
    "Pending objects were written too recently (`settle_s`), belong to a study that is still arriving, or exceed "
    "`limit`; a later run takes them."
)
EMPTY_INBOX = "The inbox is empty; if it should not be, check its address."
MAIN_FIGURES = (REGION_IOU, "selection/f1", LABEL_AUC, ZERO_SHOT_AUC, "rgrg/bleu_4", "rgrg/rouge_l", CLINICAL_F1)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def grounding_markdown(grounded: DatasetRef) -> str:
    """Return which version has regions now."""
    return f"Dataset `{grounded.name}`, version `{grounded.version}`: {sum(grounded.num_rows.values())} rows."


def stages_markdown(stages: Sequence[StageResult]) -> str:
    """Return a table of finished stages."""
    rows = [
        (
            stage.stage,
            stage.model_version or "-",
            "reused" if stage.reused else f"{stage.duration_s:.0f} s",
            stage.run_id or "-",
            f"`{stage.prefix}`",
        )
        for stage in stages
    ]
    return table(("stage", "version", "trained in", "MLflow run", "checkpoint"), rows)


def stage_markdown(stage: StageResult) -> str:
    """Return one finished stage with what it reached on validation films."""
    figures = [(name, f"{value:.3f}") for name, value in stage.metrics.items()]
    parts = [f"# Training of the stage {stage.stage}", stages_markdown([stage, *stage.beside])]
    if figures:
        parts += ["On validation films:", table(("figure", "value"), figures)]
    return "\n\n".join(parts)


def evaluation_markdown(evaluation: EvaluationResult) -> str:
    """Return what was evaluated on what, and the main figures."""
    bundle, dataset = evaluation.bundle, evaluation.dataset
    shown = {name: evaluation.metrics[name] for name in MAIN_FIGURES if name in evaluation.metrics}
    scored = f": {evaluation.num_studies} studies" if evaluation.num_studies else ""
    head = f"Bundle `{bundle.bundle_id}` on `{dataset.name}` version `{dataset.version}`, {evaluation.split}{scored}."
    if evaluation.num_left_out:
        head += f" {evaluation.num_left_out} films are left out: the bundle was trained, tuned or calibrated on them."
    rows = [(name, f"{value:.3f}") for name, value in shown.items()]
    return f"{head}\n\n{table(('figure', 'value'), rows)}\n\nWhole scorecard: `{evaluation.scorecard_key}`"


def promotion_markdown(promotion: PromotionResult) -> str:
    """Return whether the champion moved, and why not."""
    if promotion.promoted:
        before = promotion.previous_version or "none"
        return f"**Version {promotion.version} is champion** (before: {before}), bundle `{promotion.bundle_id}`."
    reasons = "\n".join(f"- {reason}" for reason in promotion.reasons)
    return f"**Version {promotion.version} was not promoted.**\n\n{reasons}"


def retrain_markdown(result: RetrainResult) -> str:
    """Return the stages, the scorecard and the decision of a retraining."""
    parts = (
        stages_markdown(result.stages),
        evaluation_markdown(result.evaluation),
        promotion_markdown(result.promotion),
    )
    return "# Retraining\n\n" + "\n\n".join(parts)


def ingest_markdown(summary: IngestSummary) -> str:
    """Return the counts of an ingest."""
    rows = [("seen", summary.num_inputs), ("accepted", summary.num_accepted), ("quarantined", summary.num_quarantined)]
    head = f"# Ingest of `{summary.dataset.name}`\n\nVersion `{summary.dataset.version}`."
    counts = f"{head}\n\n{table(('inputs', 'number'), rows)}\n\n{reasons_table(summary.reasons, summary.details)}"
    if not summary.reasons:
        return counts
    return (
        f"{counts}\n\nWhich: `{summary.quarantine_key}`. "
        "`crrg reidentify --inbox SOURCE KEY_HMAC` names the file, or the row of a table."
    )


def shards_markdown(shards: Sequence[StagedShard | ShardResult]) -> str:
    """Return which shard was worked on where, to be set below the counts; empty where there was none."""
    rows = [(each.index, *_shard_counts(each), "an earlier run" if each.reused else each.ran_on) for each in shards]
    return f"\n\n{table(('shard', 'films', 'refused', 'done by'), rows)}" if rows else ""


def night_markdown(summary: NightSummary, root: str = "") -> str:
    """Return the counts of a night.

    Args:
        summary: The night.
        root: Where its results lie, for readers who do not know; stands in front of their keys.
    """
    rows = [
        ("inputs", summary.num_inputs),
        ("drafted", summary.num_accepted),
        ("quarantined", summary.num_quarantined),
        ("pending", summary.num_pending),
        ("drafts with a flag", summary.num_flagged),
    ]
    if summary.num_shards_on_cpu:
        rows.append(("shards on the CPU", summary.num_shards_on_cpu))
    head = f"# Night of {summary.date}: {summary.status.replace('_', ' ')}\n\nBundle `{summary.bundle_id}`."
    if summary.status == "committed":
        front = f"{root}/" if root else ""
        keys = (("Manifest", summary.manifest_key), ("Review page", summary.review_key))
        said = [f"{name} `{front}{key}`" for name, key in keys if key]
        said += [f"Digest `{summary.digest}`"] if summary.digest else []
        too_many = too_many_refused(summary) if summary.exceeds_failure_rate else ""
        rest = [reasons_table(summary.reasons), too_many, *said, _watch(summary)]
    elif summary.status == "stopped":
        rest = [f"Nothing is published: {WAY_OUT}."]
    else:
        rest = [WHY_PENDING] if summary.num_pending and summary.status == "nothing_new" else [summary.held_by]
    parts = (head, table(("night", "number"), rows), *rest, *(f"Not read again: {said}." for said in summary.not_found))
    return "\n\n".join(part for part in parts if part)


def too_many_refused(summary: NightSummary) -> str:
    """Return what share of a night was refused, beside what its form allows, and where to look."""
    share, limit = f"{100 * summary.failure_share:.1f}", f"{100 * summary.max_failure_rate:.1f}"
    return (
        f"{share} % of the inputs in scope were refused, more than max_failure_rate ({limit} %): exit code "
        f"{EXIT_TOO_MANY_QUARANTINED}. What could be drafted is published, `crrg outcomes --inbox INBOX` names the "
        "others."
    )


def plan_markdown(plan: NightPlan) -> str:
    """Return what a night is going to do, before it does it."""
    rows = [("new", plan.num_new), ("done before", plan.num_done), ("pending", plan.num_pending),
            ("shards", len(plan.shards))]  # fmt: skip
    model = f"Bundle `{plan.bundle.bundle_id}`, version {plan.bundle.model_version or 'unregistered'}."
    head = f"# Night of {plan.date}: {plan.status.replace('_', ' ')}"
    is_empty = plan.status == "nothing_new" and not plan.num_new + plan.num_done + plan.num_pending
    not_found = [f"Not read again: {said}." for said in plan.not_found]
    parts = (head, model, table(("inputs", "number"), rows), plan.held_by, EMPTY_INBOX if is_empty else "", *not_found)
    return "\n\n".join(part for part in parts if part)


def night_report(summary: NightSummary, links: Mapping[str, str], root: str = "") -> str:
    """Return all that is known of a night: counts, drift, prevalence beside the last nights, times, links.

    Args:
        summary: The night.
        links: Text to address of pages about it.
        root: See ``night_markdown``.
    """
    parts = [night_markdown(summary, root)]
    if summary.watch is not None and summary.watch.findings:
        drift = [
            (each.quantity, f"{each.psi:.3f}", f"{each.ks:.3f}", f"{each.limit:.3f}" if each.limit else "-", each.level,
             *each.shown)
            for each in summary.watch.findings
        ]  # fmt: skip
        header = ("quantity", "PSI", "KS", "chance reaches", "level", "in training", "tonight")
        parts += ["## Beside the training population", table(header, drift)]
    if summary.watch is not None and summary.watch.prevalence:
        usual = summary.usual_prevalence
        rows = [
            (label, f"{share:.1%}", f"{usual[label]:.1%}" if label in usual else "-",
             f"{share - usual[label]:+.1%}" if label in usual else "-")
            for label, share in sorted(summary.watch.prevalence.items())
        ]  # fmt: skip
        parts += ["## Positive drafts", table(("label", "tonight", "last 7 nights", "change"), rows)]
    if summary.times_s:
        times = [(name, f"{seconds:.1f}") for name, seconds in summary.times_s.items()]
        parts += ["## Time", table(("stage", "seconds, all shards together"), times)]
    if links:
        parts += ["## Pages", "\n".join(f"- [{text}]({address})" for text, address in links.items())]
    return "\n\n".join(parts)


def _watch(summary: NightSummary) -> str:
    """Return what somebody should know of the night as a whole, empty where there is nothing."""
    if summary.watch is None:
        return ""
    told = [f"- **degenerate**: {fault}" for fault in summary.watch.faults]
    told += [f"- differs from training: {each.quantity}, index {each.psi:.2f}" for each in summary.watch.flagged]
    if bundle_id := summary.watch.reference_bundle_id:
        num_patients = summary.watch.num_reference_patients
        told.append(f"- compared with the training of bundle `{bundle_id}`: {num_patients:,} patients")
    if summary.watch.withheld:
        told.append("- **withheld from delivery**")
    if summary.watch.status == "no_reference":
        told.append("- compared with nothing: the bundle has no reference of its training")
    return "\n".join(told)


def delivery_markdown(summary: DeliverySummary) -> str:
    """Return the counts of a delivery."""
    rows = [
        ("studies with a current draft", summary.num_studies),
        ("delivered now", summary.num_delivered),
        ("delivered before", summary.num_unchanged),
        ("DICOM objects the archive took", summary.num_objects_sent),
        ("not deliverable", sum(summary.reasons.values())),
    ]
    reasons = f"\n\n{reasons_table(summary.reasons)}" if summary.reasons else ""
    missing = "".join(f"\n\nNot delivered: {said}." for said in summary.not_found)
    return f"# Delivery of drafts\n\n{table(('delivery', 'number'), rows)}{reasons}{missing}"


def _shard_counts(shard: StagedShard | ShardResult) -> tuple[int, int]:
    if isinstance(shard, StagedShard):
        return shard.num_inputs, shard.num_refused
    return shard.num_accepted + shard.num_quarantined, shard.num_quarantined


def reasons_table(reasons: Mapping[str, int], details: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return how often each reason occurred, the most frequent first, and where known what it says in words."""
    if not reasons:
        return "Nothing was quarantined."
    most_first: list[tuple[str, int]] = sorted(reasons.items(), key=lambda item: item[1], reverse=True)
    if not details:
        return table(("reason", "number"), most_first)
    rows = [(reason, number, details.get(reason, "").replace("|", "/")) for reason, number in most_first]
    return table(("reason", "number", "in words"), rows)
