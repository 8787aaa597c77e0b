"""The words that set two sentences of a report apart, however alike the rest is: side, place, degree, number, kind.

One vocabulary for ``dedup``, to which each of these words differs from the others, and for ``statements``, which leaves
out what it reads in another way. Knows single words only: no labels, no sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from crrg.data.reports.grounding_lexicon import ORDINALS

Kind = Literal["side", "both", "level", "end", "area", "denial", "doubt", "degree", "number", "detail"]
DecisiveWord = tuple[Kind, str]
"""What kind of word, and what it says: the same for all forms of a word, a number or vertebra as it is written."""

WORD = re.compile(r"non-[a-z]+|[a-z]+\d*|\d+(?:st|nd|rd|th)\b|\d+(?:\.\d+)?")
"""A word or number of lower-case text."""

GRADES: dict[str, tuple[str, ...]] = {
    "mild": ("traces?", "tiny", "minimal(?:ly)?", "faint", "subtle", "slight(?:ly)?", "mild(?:ly)?", "small"),
    "moderate": ("moderate(?:ly)?",),
    "severe": ("large", "marked(?:ly)?", "pronounced", "bulky", "severe(?:ly)?", "extensive(?:ly)?", "massive(?:ly)?"),
}
"""Words of one grade mean nearly the same; the later are the worse. Source: grades of the drawn cohorts' wordings."""

_VOCABULARY: dict[Kind, tuple[str, ...]] = {
    "side": ("right", "left"),
    "both": ("both|bilateral|bilaterally",),
    "level": ("upper", "lower"),
    "end": (
        "apex|apices|apical|biapical", "bases?|basal|basilar|bibasal|bibasilar", "costophrenic", "retrocardiac",
    ),
    "area": (
        "mid|middle|midlung", r"(?:peri|supra|infra|para)?hil(?:ar|a|um|us)", r"lingul\w+", "superior", "inferior",
    ),
    "denial": ("no|nor|neither", "not", "without", "never", r"resol\w+"),
    "doubt": (
        "possible|possibly", "probable|probably", "may", "might", "could", "likely", "unlikely", r"suspect\w+",
        r"questionabl[ey]", "borderline",
    ),
    "degree": tuple(word for words in GRADES.values() for word in words),
    "number": (r"\d+(?:\.\d+)?", "cm|centimeters?", "mm|millimeters?"),
    "detail": (
        # numbers in words, vertebrae, bones
        *(f"{name}|{number}(?:st|nd|rd|th)" for number, name in enumerate(ORDINALS, 1)),
        "two", "three", "four", "five", "six", "multiple|numerous|several", r"[ctl]\d{1,2}",
        "ribs?", r"clavic\w+", r"scapul\w+", r"humer\w+", "sternum|sternal", r"vertebra\w*|spine|spinal",
        # where within a level
        "proximal|proximally", "distal|distally", r"anterior\w*", r"posterior\w*", r"medial\w*", r"lateral\w*",
        r"fissur\w+",
        # how old, how changed, how much of it
        r"acute\w*", r"subacute\w*", r"chronic\w*", "old", "new|newly", "recent|recently", r"heal\w*", r"increas\w+",
        r"decreas\w+", r"improv\w+", r"worsen\w+", r"complet\w+|total", r"partial\w*",
        # what kind of finding
        "tension", r"loculat\w+", "subpulmonic", "(?:ha?emo)?dialysis", r"ha?emo\w+",
        r"cavit\w+", r"nodul\w+", r"mass|masses|masslike",
        r"spiculat\w+", r"malignan\w+|metasta\w+|cancer|carcinoma\w*", r"calcif\w+", r"granulom\w+", r"scar\w*",
        r"opaci\w+|infiltrat\w+|airspace|densit\w+", r"interstiti\w+|reticul\w+", r"alveolar",
        r"plaques?", r"thicken\w+",
        "displaced", "(?:non-?|un)displaced", r"comminut\w+", r"compress\w+|wedg\w+",
        # which device, and where it ends
        "picc", "jugular|ij", "subclavian", r"port|ports|portacath|mediport", r"swan|ganz",
        r"endotracheal|ett?", r"tracheostomy", r"nasogastric|ng", r"orogastric|og", r"feeding|dobb?hoff", "pigtail",
        r"pace\w*|pacing", r"icd|aicd|defibrillat\w+", r"wires?|sternotomy", r"clips?", r"valves?", r"stents?",
        "svc|cava|caval", "ivc", r"atri(?:um|al)", r"ventric\w+", r"cavoatrial", r"brachiocephalic|innominate",
        r"azygos", "stomach", r"duoden\w+|pylor\w+|jejun\w+", r"esophag\w+", r"bronch\w+|mainstem", r"carina\w*",
        r"(?:hemi)?diaphragm\w*", r"axill\w+", "inlet", r"malposition\w*", r"kink\w*", r"coil\w*", r"loop\w*",
    ),
}  # fmt: skip
"""Per kind the words that differ from each other; ``|`` parts the forms of one word."""

_PATTERNS = [(kind, forms, re.compile(forms)) for kind, words in _VOCABULARY.items() for forms in words]
_SEVERITY = {word: place for place, word in enumerate(_VOCABULARY["degree"], 1)}
_GRADE = {word: grade for grade, words in GRADES.items() for word in words}


def decisive_words(words: Iterable[str]) -> frozenset[DecisiveWord]:
    """Return what the decisive ones of a sentence's words (``WORD``, lower case) say."""
    return frozenset(found for word in words if (found := _read_word(word)) is not None)


def grade_of(degree: str) -> str:
    """Return the grade of a word of kind ``degree``: one of ``GRADES``."""
    return _GRADE[degree]


def severity_of(words: Iterable[DecisiveWord]) -> int:
    """Return how much the worst word of degree says, the more the worse; 0 where there is none."""
    return max((_SEVERITY[word] for kind, word in words if kind == "degree"), default=0)


@lru_cache(maxsize=8192)
def _read_word(word: str) -> DecisiveWord | None:
    for kind, forms, pattern in _PATTERNS:
        if pattern.fullmatch(word):
            if kind == "number" and word[0].isdigit():
                return kind, f"{float(word):g}"
            return kind, word if word[-1].isdigit() else forms
    return None
