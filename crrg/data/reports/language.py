"""Refuses report text in a language that the form does not let in, and says which text may be read as English.

The labeler and the lexicon know English alone. Counts words that only one side uses: English function words and
everyday words of chest reports against function words of other European languages. Learns nothing. Made so that an
English report is never refused for being short: without enough foreign words the text passes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from crrg.domain.report import Language
from crrg.errors import ReportError

MIN_LETTERS = 40
"""Fewer letters of the Latin alphabet are not judged."""

MIN_OTHER_SCRIPT_LETTERS = 8
MIN_FOREIGN_WORDS = 3
ENGLISH_ONLY: tuple[Language, ...] = ("en",)
_WAY_OUT = "; name its language in `languages` to keep the text, without labels and regions from it"

_PLACEHOLDER = re.compile(r"<[^<>\s]*>")
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_WORDS = """
    the and with are there this that which has have been not right left lung lungs heart chest clear size within
    seen small unchanged evidence acute effusion views of to is for from without stable mild normal limits no lower
    upper lobe base pleural or at by was were may be new interval increased bilateral disease tube line tip compared
    prior study
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_WORDS_OF: dict[Language, str] = {
    "de": """
        der die das und ist nicht kein keine keinen mit des dem den auf eine einen links rechts beidseits sind
        wird zum zur herz lunge bei vom unauffällig
    """,
    "fr": "le la les du et dans avec pas une au aux sur gauche droit droite sans pour est pleurale poumon de des",
    "es": "el los las del con sin una por derecho izquierdo y que se pulmonar derrame corazón tamaño la de",
    "pt": "os dos da na com sem direito esquerdo não nos sinais coração de que se por pulmonar derrame",
    "it": "il lo gli dei della di senza non sono nel delle alla dello versamento cuore con una la del pleurale",
    "nl": "het een van geen en zijn niet op aan voor bij met de hart longen links rechts",
    "tr": "ve bir ile yok sağ sol kalp akciğer her iki izlenmedi saptanmadı normaldir görülmedi mevcut olup",
    "sv": "och inte är på som för med den",
    "da": "af til ikke er som og med hjerte på den",
    "no": "af til ikke er som og med hjerte på den",
}
"""Function words and everyday words of chest reports; some are of several languages."""

_LISTS = {language: frozenset(words.split()) for language, words in _WORDS_OF.items()}
_FOREIGN = frozenset[str]().union(*_LISTS.values())
_SCRIPTS_OF: dict[Language, tuple[str, ...]] = {
    "ru": ("CYRILLIC",), "uk": ("CYRILLIC",), "el": ("GREEK",), "ar": ("ARABIC",), "fa": ("ARABIC",),
    "he": ("HEBREW",), "hi": ("DEVANAGARI",), "th": ("THAI",), "zh": ("CJK",), "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL",),
}  # fmt: skip
"""First word of the Unicode names of a language's letters."""


def check_language(text: str, languages: Collection[Language] = ENGLISH_ONLY) -> bool:
    """Refuse report text that is plainly in a language that is not let in.

    Text in another script is judged from eight letters on, if they are more than half. Text in Latin letters is
    judged from 40 letters on, if it holds at least three foreign words and more of them than English ones. A word
    with an accent counts as foreign. Placeholders are not read. Languages that share a script, or most of their
    words, let each other in.

    Args:
        text: Report text after cleaning; empty text passes.
        languages: Those that are let in beside English.

    Returns:
        Whether it may be read as English: ``False`` for text in another language that is let in.

    Raises:
        ReportError: Another script (``LANG.SCRIPT``) or another language (``LANG.NOT_ENGLISH``).
    """
    words = [word.lower() for word in _WORD.findall(_PLACEHOLDER.sub(" ", text))]
    letters = "".join(words)
    others = [letter for letter in letters if not _is_latin(letter)]
    if len(others) >= MIN_OTHER_SCRIPT_LETTERS and len(others) > len(letters) / 2:
        scripts = tuple(script for language in languages for script in _SCRIPTS_OF.get(language, ()))
        if sum(unicodedata.name(letter, "").startswith(scripts) for letter in others) > len(others) / 2:
            return False
        raise ReportError(f"the report is written in a script that is not admitted{_WAY_OUT}", code="LANG.SCRIPT")
    if len(letters) < MIN_LETTERS:
        return True
    num_english = sum(word in _ENGLISH for word in words)
    num_foreign = sum(word in _FOREIGN or not word.isascii() for word in words)
    if num_foreign < MIN_FOREIGN_WORDS or num_foreign <= num_english:
        return True
    counts = {language: sum(word in known for word in words) for language, known in _LISTS.items()}
    if max((counts.get(language, 0) for language in languages), default=0) >= max(1, *counts.values()):
        return False
    raise ReportError(f"the report is in a language that is not admitted{_WAY_OUT}", code="LANG.NOT_ENGLISH")


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")
