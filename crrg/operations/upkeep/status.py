"""Where things stand: the last nights, the champion, the bundles. Reads only."""

from __future__ import annotations

from crrg.config.base import Settings
from crrg.errors import ConfigError, StorageError
from crrg.ledger.manifest import read_manifests
from crrg.operations.summaries import table
from crrg.registry.aliases import CHAMPION, recorded_alias
from crrg.storage import Storage
from crrg.tracking.models import ModelRegistry

NUM_NIGHTS = 7


def status(storage: Storage, settings: Settings) -> str:
    """Return the last nights and the aliases as Markdown; a registry that does not answer is said, not raised."""
    manifests = read_manifests(storage)[-NUM_NIGHTS:]
    rows = [
        (night.date, night.fencing, night.num_inputs, night.num_accepted, night.num_quarantined, night.num_pending)
        for night in manifests
    ]
    nights = (
        table(("night", "commit", "inputs", "drafted", "quarantined", "pending"), rows) if rows else "No night yet."
    )
    return f"# Status of {storage.root}\n\n{nights}\n\n{_models(storage, settings)}"


def _models(storage: Storage, settings: Settings) -> str:
    record = recorded_alias(storage, CHAMPION)
    last = f"Last record of the champion: bundle `{record.bundle_id}`." if record else "No champion was recorded yet."
    try:
        registry = ModelRegistry(settings, storage)
        aliases = registry.aliases() if registry.exists() else {}
    except (ConfigError, StorageError) as error:
        return f"{last}\n\nThe registry does not answer: {error}"
    if not aliases:
        return f"{last}\n\nNo version of crrg-pipeline has an alias."
    return f"{last}\n\n{table(('alias', 'version'), sorted(aliases.items()))}"
