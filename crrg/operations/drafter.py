"""Whatever drafts reports, as operations ask for it, and the one that they mostly get: the models of a bundle.

The stages themselves are in ``crrg.inference.pipeline``, which is imported only where models are built.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from crrg.config.base import Device
from crrg.config.references import BundleRef
from crrg.domain.study import DraftReport, Film
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

if TYPE_CHECKING:
    from crrg.inference.pipeline import ReportPipeline

_kept: dict[tuple[str, str, str], ReportPipeline] = {}
_keeping = threading.Lock()


class Drafter(Protocol):
    """Drafts reports; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        """Return one draft per frontal film, in order; a draft depends on its film alone."""


def bundle_pipeline(storage: Storage, bundle: BundleRef, device: Device) -> ReportPipeline:
    """Return the models of a bundle, read and verified once per process and device; the last bundle stays in memory.

    On a CPU, a bundle that drafts with rounded weights keeps no exact ones beside them.
    """
    from crrg.device import resolve_device
    from crrg.inference.pipeline import ReportPipeline

    key = (storage.url(bundle.prefix), bundle.bundle_id, device)
    with _keeping:
        if key not in _kept:
            built = ReportPipeline.from_bundle(read_bundle(storage, bundle), resolved := resolve_device(device))
            if built.decoding.precision == "fast" and resolved.type == "cpu":
                built.generator.keep_rounded()
            for other in [other for other in _kept if other[:2] != key[:2]]:
                del _kept[other]
            _kept[key] = built
        return _kept[key]
