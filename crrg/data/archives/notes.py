"""Case histories that come with films: which of their sentences speak of the picture.

A case text tells a story, of which a sentence or two may read the film. Only those may become text for the contrastive
stage; nothing of it is ever a target of the report generator. Knows no labels: the caller says what is a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from crrg.domain.sentences import split_sentences

_PICTURE = re.compile(
    r"\b(?:chest x-?rays?|x-?rays?|cxr|radiograph\w*|film|lungs?|pulmonary|lobes?|zones?|hil(?:ar|um|a)|perihilar"
    r"|apical|basal|bibasal|bases|costophrenic|hemithorax|pleural|mediastin\w+|cardiac silhouette|opacit\w+"
    r"|opacification\w*|infiltrat\w+|consolidation\w*|peripheral|interstitial)\b",
    re.IGNORECASE,
)
_OTHER_PICTURE = re.compile(
    r"\b(?:ct|hrct|tomograph\w*|mri|ultrasound|sonograph\w*|echocardiogra\w*|scan|angiogra\w*)\b", re.IGNORECASE
)
_HISTORY = re.compile(
    r"\b(?:history|year[- ]old|yo|presented|presents|complain\w*|fever|cough\w*|admitted|discharged|treated|tested"
    r"|died|autopsy|pcr|swab|temperature|days? (?:later|before|prior|after)|sister|brother|mother|father|wife|husband"
    r"|untreated|biops\w+|diagnosed with|symptom\w*)\b",
    re.IGNORECASE,
)


def sentences_of_picture(notes: str, speaks_of_finding: Callable[[str], bool]) -> str:
    """Return the sentences of a case text that read the film.

    A sentence stays if it names a finding, names the film or a part of the lungs, and speaks neither of another kind of
    picture nor of the patient's story.

    Args:
        notes: Case text.
        speaks_of_finding: Whether a sentence names a finding, present or denied.

    Returns:
        The sentences joined by spaces; empty where none reads the film.
    """
    return " ".join(
        sentence
        for sentence in split_sentences(notes)
        if _PICTURE.search(sentence)
        and not _OTHER_PICTURE.search(sentence)
        and not _HISTORY.search(sentence)
        and speaks_of_finding(sentence)
    )
