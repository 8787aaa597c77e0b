"""Sentences that ask CLIP about a label: several that affirm it, several that deny it, several that leave it open.

To add a prompt, add it to the tuples below and raise ``PROMPTS_VERSION`` (training knows affirming and denying ones
only, so for one that leaves a label open it stays); nothing else changes. A label without an own entry gets the general
templates, so any wording a user gives works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from crrg.domain.labels import NO_FINDING, canonical_label
from crrg.errors import ConfigError

PROMPTS_VERSION = "1"
LONGEST_LABEL = 80
"""Characters of a finding in words."""

_AFFIRM = (
    "There is {}.",
    "{} is present.",
    "Findings are consistent with {}.",
)
_DENY = (
    "There is no {}.",
    "No {} is seen.",
    "No evidence of {}.",
)
_LEAVE_OPEN = (
    "There may be {}.",
    "{} cannot be excluded.",
    "Possible {}.",
)


@dataclass(frozen=True)
class PromptPair:
    """Two sets of sentences that contradict each other.

    Attributes:
        positive: Sentences that are true where the label is present.
        negative: Sentences that are true where it is absent.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def asked_labels(labels: Sequence[str]) -> list[str]:
    """Return the names of the findings that are asked about, each once, in the order given.

    Args:
        labels: Label names or findings in words, as a person types them.

    Raises:
        ConfigError: There is none, or one has no word or is too long to be a finding.
    """
    names: dict[str, str] = {}
    for name in map(canonical_label, labels):
        names.setdefault(name.casefold(), name)
    if not names or not all(map(_is_finding, names)):
        raise ConfigError(f"a label is 1 to {LONGEST_LABEL} characters of words, like 'pleural plaque'", "label")
    return list(names.values())


def _is_finding(name: str) -> bool:
    """Return whether a text may be a finding: words that can be shown, and not too many."""
    return any(map(str.isalnum, name)) and name.isprintable() and len(name) <= LONGEST_LABEL


def prompt_pair(label: str) -> PromptPair:
    """Return the sentences that ask about a label.

    Args:
        label: One of ``LABELS`` in any case, or any finding in words, e.g. ``hiatal hernia``.
    """
    label = canonical_label(label)
    if label in _OWN:
        return _OWN[label]
    return _from_nouns((label.lower(),))


def pair_about(label: str, prompts_of: Callable[[str], PromptPair] = prompt_pair) -> PromptPair:
    """Return a label's sentences; of one that denies a finding ("no effusion") the finding's, turned round.

    Args:
        label: A label or any finding in words.
        prompts_of: Gives the sentences about a finding.
    """
    denied = _denied(label)
    if denied is None:
        return prompts_of(canonical_label(label))
    pair = prompts_of(denied)
    return PromptPair(positive=pair.negative, negative=pair.positive)


def open_prompts(label: str) -> tuple[str, ...]:
    """Return sentences that say of a label, or of any finding in words, that it may be there and may not be.

    There are none for "No Finding", which is no picture that may be there.
    """
    label = _denied(label) or canonical_label(label)
    return () if label == NO_FINDING else tuple(_sentence(template, label.lower()) for template in _LEAVE_OPEN)


def _denied(label: str) -> str | None:
    """Return the finding that a label denies; ``None`` where it denies none, as "No Finding", a label of its own."""
    name = canonical_label(label)
    is_denial = name != NO_FINDING and name.casefold().startswith("no ")
    return canonical_label(name[len("no ") :]) if is_denial else None


def _from_nouns(nouns: tuple[str, ...], positive: tuple[str, ...] = (), negative: tuple[str, ...] = ()) -> PromptPair:
    """Fill the general templates with each noun and add a label's own sentences."""
    affirmed = tuple(_sentence(template, noun) for noun in nouns for template in _AFFIRM)
    denied = tuple(_sentence(template, noun) for noun in nouns for template in _DENY)
    return PromptPair(positive=affirmed + positive, negative=denied + negative)


def _sentence(template: str, noun: str) -> str:
    text = template.format(noun)
    return text[0].upper() + text[1:]


_OWN: Mapping[str, PromptPair] = {
    "Enlarged Cardiomediastinum": _from_nouns(
        ("widening of the mediastinum",),
        ("The mediastinum is widened.", "The cardiomediastinal silhouette is enlarged."),
        ("The mediastinum is not widened.", "The mediastinal contours are normal."),
    ),
    "Cardiomegaly": _from_nouns(
        ("cardiomegaly",),
        ("The heart is enlarged.", "The cardiac silhouette is enlarged."),
        ("The heart is normal in size.", "The heart is not enlarged.", "Heart size is normal."),
    ),
    "Lung Opacity": _from_nouns(
        ("opacity in the lung", "airspace opacity"),
        ("There is a patchy opacity.",),
        ("The lungs are clear.", "No focal opacity."),
    ),
    "Lung Lesion": _from_nouns(
        ("pulmonary nodule", "lung mass"),
        ("There is a nodule in the lung.",),
        ("No suspicious nodule or mass.",),
    ),
    "Edema": _from_nouns(
        ("pulmonary edema",),
        ("Interstitial edema.", "There is vascular congestion with edema."),
        ("Pulmonary vascularity is normal.",),
    ),
    "Consolidation": _from_nouns(("consolidation", "focal consolidation"), (), ("No consolidation.",)),
    "Pneumonia": _from_nouns(("pneumonia",), ("The appearance suggests pneumonia.",), ("No sign of pneumonia.",)),
    "Atelectasis": _from_nouns(
        ("atelectasis",), ("Bibasilar atelectasis.", "Linear atelectasis."), ("No atelectasis.",)
    ),
    "Pneumothorax": _from_nouns(("pneumothorax",), ("There is an apical pneumothorax.",), ("No pneumothorax.",)),
    "Pleural Effusion": _from_nouns(
        ("pleural effusion",),
        ("There is blunting of the costophrenic angle by an effusion.",),
        ("No pleural effusion.", "The costophrenic angles are sharp."),
    ),
    "Pleural Other": _from_nouns(
        ("pleural thickening", "pleural plaque"), (), ("No pleural thickening.", "The pleura is normal.")
    ),
    "Fracture": _from_nouns(
        ("fracture", "rib fracture"),
        ("There is a fractured rib.",),
        ("The bones are intact.", "No acute bony abnormality.", "No fracture."),
    ),
    "Support Devices": PromptPair(
        positive=(
            "A central venous catheter is in place.",
            "An endotracheal tube is in place.",
            "A pacemaker is in place.",
            "A chest tube is in place.",
            "There are sternal wires.",
            "An enteric tube is in place.",
            "Support devices are present.",
        ),
        negative=(
            "No support devices.",
            "There are no lines or tubes.",
            "No catheter, tube or pacemaker is seen.",
        ),
    ),
    NO_FINDING: PromptPair(
        positive=(
            "No acute cardiopulmonary abnormality.",
            "Normal chest radiograph.",
            "The lungs are clear and the heart is normal in size.",
        ),
        negative=(
            "The chest radiograph is abnormal.",
            "There is an acute cardiopulmonary abnormality.",
        ),
    ),
}
