"""How each orchestrated command ends: its form, what is printed, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crrg.config.base import FrozenConfig
from crrg.config.running import RetrainConfig
from crrg.operations.summaries import retrain_markdown


@dataclass(frozen=True)
class Ending:
    """The end of a command.

    Attributes:
        config: Form of the flow.
        render: Result to the printed text.
        code: Form and result to the exit code.
    """

    config: type[FrozenConfig]
    render: Callable[[Any], str]
    code: Callable[[Any, Any], int] = lambda _config, _result: 0


ENDINGS: Mapping[str, Ending] = {
    "retrain": Ending(RetrainConfig, retrain_markdown),
}
