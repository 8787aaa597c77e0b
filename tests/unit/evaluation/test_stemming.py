from __future__ import annotations

import pytest

from crrg.evaluation.stemming import stem

PUBLISHED = """consign consign consigned consign consigning consign consignment consign consist consist
consisted consist consistency consist consistent consist consistently consist consisting consist consists consist
consolation consol consolations consol consolatory consolatori console consol consoled consol consoles consol
consolidate consolid consolidated consolid consolidating consolid consoling consol consolingly consol consols consol
consonant conson consort consort consorted consort consorting consort conspicuous conspicu conspicuously conspicu
conspiracy conspiraci conspirator conspir conspirators conspir conspire conspir conspired conspir conspiring conspir
constable constabl constables constabl constance constanc constancy constanc constant constant
knack knack knackeries knackeri knacks knack knag knag knave knave knaves knave knavish knavish kneaded knead
kneading knead knee knee kneel kneel kneeled kneel kneeling kneel kneels kneel knees knee knell knell knelt knelt
knew knew knick knick knif knif knife knife knight knight knightly knight knights knight knit knit knits knit
knitted knit knitting knit knives knive knob knob knobs knob knock knock knocked knock knocker knocker
knockers knocker knocking knock knocks knock knopp knopp knot knot knots knot""".split()  # noqa: SIM905


@pytest.mark.parametrize(("word", "wanted"), list(zip(PUBLISHED[::2], PUBLISHED[1::2], strict=True)))
def test_the_published_sample(word: str, wanted: str) -> None:
    assert stem(word) == wanted


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("Effusions", "effus"), ("effusion", "effus"), ("opacities", "opac"), ("opacity", "opac"), ("ties", "tie"),
        ("generally", "general"), ("generate", "generat"), ("gas", "gas"), ("this", "this"), ("kiwis", "kiwi"),
        ("hopping", "hop"), ("hoping", "hope"), ("skies", "sky"), ("happily", "happili"), ("is", "is"), ("", ""),
        ("patient's", "patient"), ("exceeds", "exceed"), ("say", "say"), ("cry", "cri"), ("by", "by"),
    ],
)  # fmt: skip
def test_rules_by_hand(word: str, wanted: str) -> None:
    assert stem(word) == wanted
