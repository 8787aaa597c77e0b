"""Refuses report text that is not English: the labeler, the lexicon and the models know no other language.

Counts words that only one side uses: English function words and everyday words of chest reports against function words
of other European languages. Learns nothing. Made so that an English report is never refused for being short: without
enough foreign words the text passes.
"""

from __future__ import annotations

import re
import unicodedata

from crrg.errors import ReportError

MIN_LETTERS = 40
"""Fewer letters of the Latin alphabet are not judged."""

MIN_OTHER_SCRIPT_LETTERS = 8
MIN_FOREIGN_WORDS = 3

_PLACEHOLDER = re.compile(r"<[^<>\s]*>")
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_WORDS = """
    the and with are there this that which has have been not right left lung lungs heart chest clear size within
    seen small unchanged evidence acute effusion views of to is for from without stable mild normal limits no lower
    upper lobe base pleural or at by was were may be new interval increased bilateral disease tube line tip compared
    prior study
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_FOREIGN_WORDS = """
    der die das und ist nicht kein keine keinen mit des dem den auf eine einen links rechts beidseits sind wird zum
    zur herz lunge bei vom unauffällig le la les du et dans avec pas une au aux sur gauche droit droite sans pour
    est pleurale poumon el los las del con sin una por derecho izquierdo y que se pulmonar derrame corazón tamaño os
    dos da na com sem direito esquerdo não nos sinais coração il lo gli dei della di senza non sono nel delle alla
    dello versamento cuore het een van geen en zijn niet op aan voor bij met de hart longen ve bir ile yok sağ sol
    kalp akciğer her iki izlenmedi saptanmadı normaldir görülmedi mevcut olup och inte är på af til ikke er som og
    för med hjerte
"""
_FOREIGN = frozenset(_FOREIGN_WORDS.split())


def check_language(text: str) -> None:
    """Refuse report text that is plainly not English.

    Text in another script is refused from eight letters on, if they are more than half. Text in Latin letters is
    refused from 40 letters on, if it holds at least three foreign words and more of them than English ones. A word
    with an accent counts as foreign. Placeholders are not read.

    Args:
        text: Report text after cleaning; empty text passes.

    Raises:
        ReportError: Another script (``LANG.SCRIPT``) or another language (``LANG.NOT_ENGLISH``).
    """
    words = [word.lower() for word in _WORD.findall(_PLACEHOLDER.sub(" ", text))]
    letters = "".join(words)
    num_other = sum(not _is_latin(letter) for letter in letters)
    if num_other >= MIN_OTHER_SCRIPT_LETTERS and num_other > len(letters) / 2:
        raise ReportError("the report is not written in Latin letters; only English is read", code="LANG.SCRIPT")
    if len(letters) < MIN_LETTERS:
        return
    num_english = sum(word in _ENGLISH for word in words)
    num_foreign = sum(word in _FOREIGN or not word.isascii() for word in words)
    if num_foreign >= MIN_FOREIGN_WORDS and num_foreign > num_english:
        raise ReportError("the report is not in English; only English is read", code="LANG.NOT_ENGLISH")


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")
