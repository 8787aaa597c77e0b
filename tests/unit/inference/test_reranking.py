from __future__ import annotations

import numpy as np
import torch

from crrg.domain.labels import LABEL_INDEX
from crrg.evaluation.labeler import label_report
from crrg.inference.decoding import DecodedPhrase
from crrg.inference.reranking import likest_to_film, prefer_text, reconcile_flags

NORMAL, EFFUSION, BOTH = (
    "No pleural effusion.",
    "There is a pleural effusion.",
    "There is a pleural effusion and a pneumothorax.",
)


def test_what_the_film_does_not_have_is_never_preferred() -> None:
    wanted = {"Pleural Effusion": 0, "Pneumothorax": 0}
    assert prefer_text([NORMAL, EFFUSION], [0.1, 0.9], label_report, wanted) == 0
    assert prefer_text([NORMAL, EFFUSION], [0.1, 0.9], label_report) == 1


def test_a_wording_wins_only_over_one_that_states_the_same() -> None:
    wanted = {"Pleural Effusion": 1, "Pneumothorax": 1}
    assert prefer_text([EFFUSION, BOTH], [0.1, 0.9], label_report, wanted) == 0
    assert prefer_text([EFFUSION, BOTH, "Pleural effusion is seen."], [0.1, 0.9, 0.5], label_report, wanted) == 2


def test_flags_follow_the_film() -> None:
    edema, mass = LABEL_INDEX["Edema"], LABEL_INDEX["Lung Lesion"]
    flags = np.zeros((1, 29, 15))
    flags[0, 4, [edema, 14]] = 1
    regions = np.zeros((1, 29, 14))
    regions[0, 7, mass] = 0.4
    labels = np.full((1, 14), 0.3)
    labels[0, edema], labels[0, mass] = 0.1, 0.8
    changed = reconcile_flags(flags, regions, labels, np.full(14, 0.5))
    assert changed[0, 4].sum() == 0
    assert changed[0, 7].nonzero()[0].tolist() == [mass, 14]
    assert changed.sum() == 2


def test_reranking_takes_the_likest_of_the_wordings_that_state_the_flags() -> None:
    flags = np.zeros((2, 15))
    flags[0, [LABEL_INDEX["Pleural Effusion"], 14]] = 1
    worded = "Pleural effusion is seen."
    hypotheses = [
        [DecodedPhrase(text, -0.1 * place, True) for place, text in enumerate((EFFUSION, worded, BOTH, NORMAL))],
        [DecodedPhrase(NORMAL, -0.1, True), DecodedPhrase(EFFUSION, -0.2, True)],
    ]
    # the film looks most like "both" and least like the likeliest wording
    likeness = {EFFUSION: 0.0, worded: 0.5, BOTH: 0.9, NORMAL: 0.2}
    asked: list[list[str]] = []

    def encode(texts) -> torch.Tensor:
        asked.append(list(texts))
        return torch.tensor([[likeness[text]] for text in texts])

    chosen = likest_to_film(hypotheses, flags, torch.ones(2, 1), encode)
    assert [phrase.text for phrase in chosen] == [worded, NORMAL]
    assert [sorted(texts) for texts in asked] == [sorted(likeness)]
    assert likest_to_film([], np.zeros((0, 15)), torch.ones(0, 1), lambda texts: torch.ones(len(texts), 1)) == []
