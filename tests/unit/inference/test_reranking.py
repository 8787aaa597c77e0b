from __future__ import annotations

import numpy as np
import torch

from crrg.domain.labels import LABEL_INDEX
from crrg.evaluation.labeler import label_report
from crrg.inference.decoding import DecodedPhrase
from crrg.inference.reranking import likest_to_film, num_wrong, prefer_text
from crrg.inference.statements import known_sides, read_statement

NORMAL, EFFUSION, BOTH = (
    "No pleural effusion.",
    "There is a pleural effusion.",
    "There is a pleural effusion and a pneumothorax.",
)


def test_what_the_film_does_not_have_is_never_preferred() -> None:
    wanted = {"Pleural Effusion": 0, "Pneumothorax": 0}
    assert prefer_text([NORMAL, EFFUSION], [0.1, 0.9], label_report, wanted) == 0
    assert prefer_text([NORMAL, EFFUSION], [0.1, 0.9], label_report) == 1


def test_a_false_denial_or_a_hedge_is_as_wrong_as_a_false_finding() -> None:
    assert num_wrong(NORMAL, {"Pleural Effusion": 1}, label_report) == 1
    assert num_wrong("No acute cardiopulmonary abnormality.", {"Pleural Effusion": 1}, label_report) == 1
    assert num_wrong("There may be a pleural effusion.", {"Pleural Effusion": 0}, label_report) == 1
    assert num_wrong(NORMAL, {"Pleural Effusion": None}, label_report) == 0
    # the denial is likest to the film, and the hedge next; the film has an effusion
    hedged = "There may be a pleural effusion."
    assert prefer_text([NORMAL, EFFUSION], [0.9, 0.1], label_report, {"Pleural Effusion": 1}) == 1
    assert prefer_text([NORMAL, hedged], [0.1, 0.9], label_report, {"Pleural Effusion": 0}) == 0
    assert prefer_text([EFFUSION, hedged], [0.1, 0.9], label_report, {"Pleural Effusion": 1}) == 0


def test_a_denial_of_one_side_is_wrong_only_of_that_side() -> None:
    wanted = {"Pleural Effusion": 1, "Lung Opacity": 1}
    right = known_sides([read_statement("Small right pleural effusion.", label_report)])
    assert right == {"Pleural Effusion": {"right"}}
    assert num_wrong("No left pleural effusion.", wanted, label_report, right) == 0
    assert num_wrong("No right pleural effusion.", wanted, label_report, right) == 1
    assert num_wrong(NORMAL, wanted, label_report, right) == 1
    # where nobody says on which side the film has it, one side alone may well be free of it
    assert num_wrong("No right pleural effusion.", wanted, label_report) == 0
    # a clear zone says nothing of the rest of the lungs
    assert num_wrong("The left upper lung zone is clear.", wanted, label_report) == 0


def test_a_wording_wins_only_over_one_that_it_agrees_with_or_completes() -> None:
    # saying more was never allowed before: then drafts could not gain a finding that the film is known to have
    wanted = {"Pleural Effusion": 1, "Pneumothorax": 1}
    worded = "Pleural effusion is seen."
    assert prefer_text([EFFUSION, BOTH], [0.1, 0.9], label_report, wanted) == 1
    assert prefer_text([BOTH, EFFUSION], [0.1, 0.9], label_report, wanted) == 0, "saying less never wins"
    assert prefer_text([EFFUSION, worded, BOTH], [0.1, 0.5, 0.9], label_report, {"Pleural Effusion": 1}) == 1
    more_denied = "There is a pleural effusion and no pneumothorax."
    assert prefer_text([EFFUSION, more_denied], [0.1, 0.9], label_report, wanted | {"Pneumothorax": 0}) == 0


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
