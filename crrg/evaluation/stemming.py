"""The stem of an English word, by which METEOR and the stemmed ROUGE-L hold "effusions" and "effusion" to be one word.

Pure text; knows no dictionary. The older rules of Porter (1980), which NLTK uses, differ in some endings ("-ly").

Source: Porter, Snowball: the English (Porter2) stemming algorithm, 2001; METEOR 1.5 stems by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

_VOWELS = frozenset("aeiouy")
_DOUBLES = ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")
_LI_ENDINGS = frozenset("cdeghkmnrt")
_WHOLE_WORDS: Mapping[str, str] = {
    "skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "idly": "idl", "gently": "gentl",
    "ugly": "ugli", "early": "earli", "only": "onli", "singly": "singl", "sky": "sky", "news": "news", "howe": "howe",
    "atlas": "atlas", "cosmos": "cosmos", "bias": "bias", "andes": "andes",
}  # fmt: skip
_FINISHED = frozenset(("inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"))
_FIRST_REGION_AFTER = ("gener", "commun", "arsen")
_SECOND_STEP: Mapping[str, str] = {
    "tional": "tion", "enci": "ence", "anci": "ance", "abli": "able", "entli": "ent", "izer": "ize",
    "ization": "ize", "ational": "ate", "ation": "ate", "ator": "ate", "alism": "al", "aliti": "al", "alli": "al",
    "fulness": "ful", "ousli": "ous", "ousness": "ous", "iveness": "ive", "iviti": "ive", "biliti": "ble",
    "bli": "ble", "ogi": "og", "fulli": "ful", "lessli": "less", "li": "",
}  # fmt: skip
_THIRD_STEP: Mapping[str, str] = {
    "tional": "tion", "ational": "ate", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic", "ful": "",
    "ness": "", "ative": "",
}  # fmt: skip
_FOURTH_STEP = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ism", "ate", "iti", "ous", "ive",
    "ize", "ion",
)  # fmt: skip


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return the stem of a word in lower case; words of one or two letters are their own stem."""
    word = word.lower()
    if len(word) <= 2 or word in _WHOLE_WORDS:
        return _WHOLE_WORDS.get(word, word)
    word = _mark_consonant_y(word.removeprefix("'"))
    first = _first_region(word)
    second = _region_after(word, first)
    word = _without_plural(_without_possessive(word))
    if word in _FINISHED:
        return word
    word = _without_past(word, first)
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWELS:
        word = word[:-1] + "i"
    word = _second_step(word, first)
    word = _third_step(word, first, second)
    word = _fourth_step(word, second)
    return _last_step(word, first, second).lower()


def _mark_consonant_y(word: str) -> str:
    """Write a ``y`` that starts the word or follows a vowel as ``Y``: it is a consonant there."""
    letters = list(word)
    for i, letter in enumerate(letters):
        if letter == "y" and (i == 0 or letters[i - 1] in _VOWELS):
            letters[i] = "Y"
    return "".join(letters)


def _first_region(word: str) -> int:
    for beginning in _FIRST_REGION_AFTER:
        if word.startswith(beginning):
            return len(beginning)
    return _region_after(word, 0)


def _region_after(word: str, start: int) -> int:
    """Return where the part after the first consonant that follows a vowel begins, looking from ``start``."""
    for i in range(start + 1, len(word)):
        if word[i] not in _VOWELS and word[i - 1] in _VOWELS:
            return i + 1
    return len(word)


def _ends_short(word: str) -> bool:
    """Return whether the word ends in a short syllable."""
    if len(word) == 2:
        return word[0] in _VOWELS and word[1] not in _VOWELS
    if len(word) < 3:
        return False
    before, vowel, last = tuple(word[-3:])
    return before not in _VOWELS and vowel in _VOWELS and last not in _VOWELS and last not in "wxY"


def _without_possessive(word: str) -> str:
    for ending in ("'s'", "'s", "'"):
        if word.endswith(ending):
            return word.removesuffix(ending)
    return word


def _without_plural(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith(("us", "ss")) or not word.endswith("s"):
        return word
    return word[:-1] if any(letter in _VOWELS for letter in word[:-2]) else word


def _without_past(word: str, first: int) -> str:
    for ending in ("eedly", "eed"):
        if word.endswith(ending):
            return word.removesuffix(ending) + "ee" if len(word) - len(ending) >= first else word
    ending = next((each for each in ("ingly", "edly", "ing", "ed") if word.endswith(each)), "")
    rest = word.removesuffix(ending)
    if not ending or not any(letter in _VOWELS for letter in rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if rest.endswith(_DOUBLES):
        return rest[:-1]
    return rest + "e" if first >= len(rest) and _ends_short(rest) else rest


def _longest(word: str, endings: Mapping[str, str] | tuple[str, ...]) -> str:
    return max((ending for ending in endings if word.endswith(ending)), key=len, default="")


def _second_step(word: str, first: int) -> str:
    ending = _longest(word, _SECOND_STEP)
    rest = word.removesuffix(ending)
    if not ending or len(rest) < first:
        return word
    if (ending == "ogi" and not rest.endswith("l")) or (ending == "li" and rest[-1:] not in _LI_ENDINGS):
        return word
    return rest + _SECOND_STEP[ending]


def _third_step(word: str, first: int, second: int) -> str:
    ending = _longest(word, _THIRD_STEP)
    rest = word.removesuffix(ending)
    if not ending or len(rest) < (second if ending == "ative" else first):
        return word
    return rest + _THIRD_STEP[ending]


def _fourth_step(word: str, second: int) -> str:
    ending = _longest(word, _FOURTH_STEP)
    rest = word.removesuffix(ending)
    if not ending or len(rest) < second or (ending == "ion" and not rest.endswith(("s", "t"))):
        return word
    return rest


def _last_step(word: str, first: int, second: int) -> str:
    rest = word[:-1]
    if word.endswith("e") and (len(rest) >= second or (len(rest) >= first and not _ends_short(rest))):
        return rest
    return rest if word.endswith("ll") and len(rest) >= second else word
