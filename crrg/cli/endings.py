"""How each orchestrated command ends: its form, what is printed, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crrg.cli.running import ingest_code
from crrg.config.base import FrozenConfig, Settings
from crrg.config.data import IngestConfig
from crrg.config.running import DemoConfig, NightlyConfig, RetrainConfig
from crrg.operations.demo_run import demo_markdown
from crrg.operations.ingest.ingest import ingest_as_set
from crrg.operations.night.nightly import exit_code
from crrg.operations.night.steps import go_on_with_night
from crrg.operations.root import open_root
from crrg.operations.summaries import ingest_markdown, night_markdown, retrain_markdown
from crrg.operations.training.retrain import retrain
from crrg.storage import Storage


@dataclass(frozen=True)
class Ending:
    """The end of a command.

    Attributes:
        config: Form of the flow.
        render: Result to the printed text.
        code: Result to the exit code.
        direct: The same work without orchestrator, for when its server does not answer; ``None`` where there is none.
        is_hurried: Whether a server that does not answer is given up soon, and not only after it may have started anew.
    """

    config: type[FrozenConfig]
    render: Callable[[Any], str]
    code: Callable[[Any], int] = lambda _result: 0
    direct: Callable[[Any, Storage, Settings], Any] | None = None
    is_hurried: bool = False


ENDINGS: Mapping[str, Ending] = {
    "demo": Ending(DemoConfig, lambda result: demo_markdown(result, open_root()[0])),
    "ingest": Ending(IngestConfig, ingest_markdown, ingest_code, direct=ingest_as_set),
    "retrain": Ending(RetrainConfig, retrain_markdown, direct=retrain),
    "nightly": Ending(NightlyConfig, night_markdown, exit_code, direct=go_on_with_night, is_hurried=True),
}
