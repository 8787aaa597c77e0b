"""Make a bundle of parts that are named one by one, and register it as a candidate where that is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from crrg.config.base import STAGES, Settings
from crrg.config.bundling import BundleConfig
from crrg.config.references import BundleRef, PromotionResult, StageResult
from crrg.errors import ConfigError
from crrg.ledger.audit import write_audit
from crrg.operations.registry.assemble import assemble_fused, parts_of, register_bundle
from crrg.operations.registry.given_parts import ENCODER, check_parts, find_encoder, find_parts
from crrg.operations.registry.promote import gate_and_promote
from crrg.operations.scoring.evaluate import evaluate_bundle
from crrg.operations.summaries import promotion_markdown, table
from crrg.operations.training.retrain import evaluation_form, pin_dataset
from crrg.registry.bundle import BUNDLE_FILE
from crrg.storage import Storage


@dataclass(frozen=True)
class MadeBundle:
    """A bundle and what it is made of.

    Attributes:
        bundle: Where it lies.
        folder: The same as a folder or URL that ``--model`` takes.
        parts: Part to its stage.
        decision: What the gate decided; ``None`` where the bundle was not registered.
        encoder_sha256: Digest of the weights of its encoder of sentences; empty where it has none.
    """

    bundle: BundleRef
    folder: str
    parts: dict[str, StageResult]
    decision: PromotionResult | None
    encoder_sha256: str = ""

    def to_markdown(self) -> str:
        """Return parts, folder and decision."""
        rows: list[tuple[str, ...]] = [
            (name, f"`{self.parts[name].prefix}`", f"`{self.parts[name].sha256[:16]}`") for name in STAGES
        ]
        if self.encoder_sha256:
            rows.append((ENCODER, "in the bundle", f"`{self.encoder_sha256[:16]}`"))
        lines = [table(("part", "checkpoint", "sha256"), rows), "", f"Bundle `{self.bundle.bundle_id}`: {self.folder}"]
        return "\n".join([*lines, *(["", promotion_markdown(self.decision)] if self.decision else [])])


def make_bundle(config: BundleConfig, storage: Storage, settings: Settings) -> MadeBundle:
    """Put named parts together as a bundle, with the classifier that fuses what they say.

    Args:
        config: Form of the bundle.
        storage: Root with the dataset; receives the bundle.
        settings: Name tracking server and registry, if there are any; asked only for a candidate.

    Raises:
        ConfigError: There is no such dataset or folder, a part is missing, parts do not suit each other, or an
            encoder of sentences would not be asked.
        ModelError: A part is damaged, or was trained on other parts than those given.
    """
    form = pin_dataset(config.gate_form(), storage)
    config = config.model_copy(update={"dataset_version": form.dataset_version})
    stages, encoder = find_parts(config.parts, storage), find_encoder(config.parts)
    parts = parts_of(stages)
    missing = [name for name in STAGES if name not in parts]
    if missing:
        raise ConfigError(
            f"no folder contains {', '.join(missing)}; train it (crrg train STAGE) and add the folder that it names "
            "with another --from",
            "parts of the bundle",
        )
    check_parts(parts, storage)
    bundle = assemble_fused(stages, config, storage, encoder=encoder)
    encoder_sha256 = encoder.config["imported"]["sha256"] if encoder else ""
    write_audit(
        storage,
        "bundle",
        subject=bundle.prefix,
        bundle_id=bundle.bundle_id,
        inputs=(
            config.dataset_version,
            *(parts[name].sha256 for name in STAGES),
            *filter(None, [encoder_sha256]),
        ),
        writes={f"{bundle.prefix}/{BUNDLE_FILE}": storage.sha256(f"{bundle.prefix}/{BUNDLE_FILE}")},
    )
    decision = None
    if config.register_candidate:
        evaluation = evaluate_bundle(bundle, evaluation_form(form), storage)
        bundle = register_bundle(evaluation, storage, settings)
        decision = gate_and_promote(evaluation.model_copy(update={"bundle": bundle}), form, storage, settings)
    return MadeBundle(bundle, storage.url(bundle.prefix), parts, decision, encoder_sha256)
