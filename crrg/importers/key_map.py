"""Fits a published state dict to one of our networks: every key on either side is accounted for.

A name of theirs is renamed by the first rule that fits; what several names share must be equal; what a rule drops is
listed; a key of theirs without a rule, a key of ours that nothing filled, or another shape refuses the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from crrg.errors import ModelError
from crrg.importers.torch_file import TorchContents

MAX_KEYS_SHOWN = 6


@dataclass(frozen=True)
class Rule:
    """One way of renaming.

    Attributes:
        pattern: Regular expression that a whole key of theirs fits.
        name: Our name, with backslash and number for groups; ``None`` drops the key.
        convert: Applied to the tensor, e.g. a transposition.
        parts: Where not empty, the tensor is cut into as many equal parts along its first axis, and each of these words
            stands for ``{part}`` in the name of its part.
    """

    pattern: str
    name: str | None
    convert: Callable[[Tensor], Tensor] | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyReport:
    """What became of every key of a checkpoint, for one of our networks.

    Attributes:
        taken: Our key to theirs.
        aliases: Further names of theirs whose tensors are equal to one that was taken.
        dropped: Keys of theirs that carry nothing we need, e.g. masks.
        own: Keys of ours that the checkpoint does not have and that keep their neutral value.
    """

    taken: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)


def fit_module(
    module: nn.Module,
    contents: TorchContents,
    rules: Sequence[Rule],
    subject: str,
    *,
    own: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> KeyReport:
    """Load a published state dict into a network of ours, strictly.

    Args:
        module: Network of the right sizes; filled in place, as float32.
        contents: Tensors under their published names.
        rules: Tried in order.
        subject: What is being filled, for messages.
        own: Patterns of our keys that the checkpoint cannot have.
        ignore: Patterns of their keys that another network takes.

    Raises:
        ModelError: A key is missing, unknown, of another shape or kind, two names of one tensor differ, or a value is
            NaN or infinite.
    """
    report = KeyReport()
    wanted = module.state_dict()
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name in contents.names():
        if any(re.fullmatch(pattern, name) for pattern in ignore):
            continue
        rule = next((rule for rule in rules if re.fullmatch(rule.pattern, name)), None)
        if rule is None:
            unknown.append(name)
        elif rule.name is None:
            report.dropped.append(name)
        else:
            key = re.sub(rule.pattern, rule.name, name)
            for ours, tensor in _pieces(key, contents[name], rule, name, subject).items():
                _take(name, ours, tensor, found, report, subject)
    unknown += sorted({report.taken[key] for key in found if key not in wanted})
    missing = [key for key in wanted if key not in found]
    report.own.extend(key for key in missing if any(re.fullmatch(pattern, key) for pattern in own))
    lost = [key for key in missing if key not in report.own]
    _refuse(subject, {"missing": lost, "unknown": unknown, **_misfits(found, wanted, report.taken)})
    module.load_state_dict({**wanted, **found}, strict=True)
    return report


def _misfits(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return by what is wrong which tensors, under their own names, cannot be weights of the network."""
    problems: dict[str, list[str]] = {"of another shape": [], "not of real numbers": [], "with NaN or infinity": []}
    for key, tensor in found.items():
        ours = wanted.get(key, tensor)
        if tensor.shape != ours.shape:
            problems["of another shape"].append(
                f"{names[key]} {list(tensor.shape)} where {list(ours.shape)} is expected"
            )
        if ours.is_floating_point() and not tensor.is_floating_point():
            problems["not of real numbers"].append(f"{names[key]} {str(tensor.dtype).removeprefix('torch.')}")
        if not torch.isfinite(tensor).all():
            problems["with NaN or infinity"].append(names[key])
    return problems


def _pieces(key: str, tensor: Tensor, rule: Rule, name: str, subject: str) -> dict[str, Tensor]:
    """Return what a tensor of theirs becomes, by our key: itself, or its equal parts."""
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    tensor = rule.convert(tensor) if rule.convert is not None else tensor
    if not rule.parts:
        return {key: tensor}
    if not tensor.dim() or len(tensor) % len(rule.parts):
        raise ModelError(f"{name} {list(tensor.shape)} cannot be cut into {len(rule.parts)} equal parts", subject)
    return {
        key.replace("{part}", word): part for word, part in zip(rule.parts, tensor.chunk(len(rule.parts)), strict=True)
    }


def _take(name: str, key: str, tensor: Tensor, found: dict[str, Tensor], report: KeyReport, subject: str) -> None:
    if key not in found:
        found[key] = tensor
        report.taken[key] = name
        return
    if not torch.equal(found[key], tensor):
        raise ModelError(f"{name} and {report.taken[key]} should be one tensor and differ", subject)
    report.aliases[name] = report.taken[key]


def _refuse(subject: str, problems: dict[str, list[str]]) -> None:
    parts = []
    for what, keys in problems.items():
        if keys:
            shown = ", ".join(sorted(keys)[:MAX_KEYS_SHOWN])
            parts.append(f"{len(keys)} {what} ({shown}{', …' if len(keys) > MAX_KEYS_SHOWN else ''})")
    if parts:
        raise ModelError("the checkpoint's keys do not fit: " + "; ".join(parts), subject)
