"""The steps of a night as a task or a command calls them: the bundle is resolved, the secret taken, the models built.

``crrg.operations.night.nightly`` knows neither registry nor settings; here they meet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from crrg.config.base import Settings
from crrg.config.references import BundleRef, NightPlan, NightSummary, ShardRef, ShardResult
from crrg.config.running import NightlyConfig
from crrg.data.privacy.deidentify import Pseudonyms, pseudonyms_of
from crrg.domain.bundle import UNRECORDED_IMAGE_SIZE
from crrg.errors import ConfigError
from crrg.operations.drafter import bundle_pipeline
from crrg.operations.night import nightly
from crrg.operations.night.feed import ShardFeed
from crrg.operations.night.report import report_night, tell_untold
from crrg.operations.root import open_root
from crrg.registry.aliases import ResolvedBundle, resolve_bundle
from crrg.registry.bundle import read_image_size, take_in
from crrg.storage import Storage

logger = logging.getLogger(__name__)

_feeds: dict[tuple[str, str, int], ShardFeed] = {}
_keeping = threading.Lock()


def open_night(config: NightlyConfig, storage: Storage, settings: Settings) -> NightPlan:
    """Resolve the bundle, take the night, and list what is new in shards.

    Raises:
        ConfigError: There is no secret for the pseudonyms, no such inbox, or films of another size are asked for than
            the models were trained on.
        ModelError: There is no such model, or it has not passed its gate; nothing was read.
    """
    pseudonyms = pseudonyms_of(settings)
    config, resolved = _resolved(config, storage, settings)
    plan = nightly.plan_night(config, storage, resolved.ref, pseudonyms, registry_available=resolved.registry_available)
    logger.info(
        "night %s: %d new, %d done, %d pending, bundle %s",
        plan.date, plan.num_new, plan.num_done, plan.num_pending, plan.bundle.bundle_id,
    )  # fmt: skip
    return plan


def tell_of_earlier(
    plan: NightPlan, storage: Storage, settings: Settings, tags: Mapping[str, str]
) -> list[tuple[NightSummary, str]]:
    """Tell of nights that were ended before they could; return each with its page.

    Args:
        plan: The night that tells of them; one that another process holds tells of none.
        storage: The root.
        settings: Name the tracking server, if there is one.
        tags: Ids that tie the runs to the orchestrator.
    """
    return [] if plan.status == "held" else tell_untold(storage, settings, tags=tags)


def draft_shard(plan: NightPlan, shard: ShardRef, storage: Storage, settings: Settings) -> ShardResult:
    """Draft what a shard lists; models, listing and decoders are kept for the next shard of the same night."""
    pipeline = bundle_pipeline(storage, plan.bundle, plan.config.device)
    pseudonyms = pseudonyms_of(settings)
    return nightly.run_shard(
        plan,
        shard,
        storage,
        pseudonyms,
        pipeline,
        cpu_drafter=lambda: bundle_pipeline(storage, plan.bundle, "cpu"),
        feed=_feed_of(plan, storage, pseudonyms),
    )


def close_night(plan: NightPlan, results: Sequence[ShardResult], storage: Storage) -> NightSummary:
    """Publish the night with one manifest, and give it back; what was known of the inbox is released before."""
    _close_feed(plan, storage)
    return nightly.commit_night(plan, list(results), storage)


def give_back(plan: NightPlan) -> None:
    """Give a night back that was not published, whatever ended it; a published one is given back already."""
    storage, _ = open_root()
    _close_feed(plan, storage)
    nightly.release_night(plan, storage)


def run_night(config: NightlyConfig, storage: Storage, settings: Settings) -> NightSummary:
    """Run a whole night in this process."""
    config, resolved = _resolved(config, storage, settings)
    summary = nightly.run_night(
        config,
        storage,
        resolved.ref,
        pseudonyms_of(settings),
        lambda: bundle_pipeline(storage, resolved.ref, config.device),
        make_cpu_drafter=lambda: bundle_pipeline(storage, resolved.ref, "cpu"),
        registry_available=resolved.registry_available,
    )
    report_night(summary, storage, settings)
    if summary.status != "held":
        tell_untold(storage, settings)
    return summary


def go_on_with_night(config: NightlyConfig, storage: Storage, settings: Settings) -> NightSummary:
    """Run a whole night in this process after a flow of this process broke off, which may have left it held."""
    nightly.release_all(storage)
    return run_night(config, storage, settings)


def _resolved(config: NightlyConfig, storage: Storage, settings: Settings) -> tuple[NightlyConfig, ResolvedBundle]:
    """Return the form with the films' size, and the bundle that a night drafts with, which lies in the root."""
    resolved = resolve_bundle(config.model, storage, settings)
    config = _sized(config, resolved.ref, storage)
    return config, replace(resolved, ref=take_in(storage, resolved.ref))


def _sized(config: NightlyConfig, bundle: BundleRef, storage: Storage) -> NightlyConfig:
    """Return the form with the size of the films that its models were trained on."""
    recorded = read_image_size(storage, bundle)
    if config.image_size and recorded and config.image_size != recorded:
        raise ConfigError(
            f"image_size is {config.image_size}, its models were trained on films of {recorded} pixels; leave "
            "image_size out (0 takes theirs), or name a bundle that was trained on films of that size",
            f"bundle {bundle.bundle_id[:12]}",
        )
    size = config.image_size or recorded or UNRECORDED_IMAGE_SIZE
    return config.model_copy(update={"image_size": size})


def _feed_of(plan: NightPlan, storage: Storage, pseudonyms: Pseudonyms) -> ShardFeed:
    """Return what opens the shards of a night in this process; that of a night before it is closed."""
    key = _feed_key(plan, storage)
    with _keeping:
        if key not in _feeds:
            while _feeds:
                _feeds.popitem()[1].close()
            _feeds[key] = ShardFeed(plan, storage, pseudonyms)
        return _feeds[key]


def _close_feed(plan: NightPlan, storage: Storage) -> None:
    with _keeping:
        feed = _feeds.pop(_feed_key(plan, storage), None)
    if feed is not None:
        feed.close()


def _feed_key(plan: NightPlan, storage: Storage) -> tuple[str, str, int]:
    return storage.root, plan.run_id, plan.fencing
