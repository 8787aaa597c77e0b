"""What differs in a decisive word is told twice; the same thing in other words is told once. Expected texts by hand."""

from __future__ import annotations

import pytest

from crrg.inference.assembly import AssembledReport, RegionPhrase, assemble


def report(*sentences: str, is_abnormal: bool = True) -> AssembledReport:
    return assemble([RegionPhrase("right lung", sentence, is_abnormal) for sentence in sentences])


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("is_flagged", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Small right apical pneumothorax.", "Large right tension pneumothorax."),
        ("Small right pneumothorax.", "Massive right pneumothorax."),
        ("Right PICC ends in the upper SVC.", "Right internal jugular catheter ends in the right atrium."),
        ("Right PICC ends in the upper SVC.", "Right PICC ends in the lower SVC."),
        ("An endotracheal tube ends in the right main bronchus.", "Right endotracheal tube ends above the carina."),
        ("Compression fracture of T8.", "Compression fracture of L1."),
        ("Compression fracture of T1.", "Compression fracture of L1."),
        ("Fracture of the right sixth rib.", "Fracture of the right clavicle."),
        ("Fracture of the right sixth rib.", "Fracture of the right seventh rib."),
        ("Displaced fracture of the right clavicle.", "Non-displaced fracture of the right clavicle."),
        ("3 cm mass in the right upper lobe.", "Cavitary nodule in the right apex."),
        ("3 mm nodule in the right apex.", "3 cm nodule in the right apex."),
        (
            "A 2 cm nodule in the superior segment of the right lower lobe.",
            "A 2 cm nodule in the basal segment of the right lower lobe.",
        ),
        ("2 cm nodule in the right costophrenic angle.", "2 cm nodule in the right retrocardiac region."),
        ("Opacity in the superior segment of the right lower lobe.", "Opacity in the inferior right lower lobe."),
        ("Right hilar mass.", "Right middle lobe mass."),
        ("Moderate right pleural effusion.", "Possible loculated right pleural effusion."),
        ("Small loculated right pleural effusion.", "Large right pleural effusion."),
        ("Small pleural effusion.", "Large pleural effusion."),
        ("Right pleural effusion.", "Possible large right pleural effusion."),
        ("The thoracic aorta is tortuous.", "The aorta is calcified."),
        ("The spine is wedged at its upper end.", "The spine is wedged at its lower end."),
        ("Right pulmonary edema.", "Left pulmonary edema."),
        ("Acute opacity in the left lower lobe.", "Chronic opacity in the left lower lobe."),
    ],
)
def test_what_differs_in_a_decisive_word_stays(first: str, second: str, is_flagged: bool, is_turned: bool) -> None:
    told = (second, first) if is_turned else (first, second)
    assert report(*told, is_abnormal=is_flagged).findings == " ".join(told)


@pytest.mark.parametrize(
    ("sentences", "told"),
    [
        (("There is a small right effusion.", "Small right pleural effusion is seen."), 0),
        (("Small right pleural effusion.", "Small effusion at the right base.", "Tiny effusion on the right."), 0),
        (("The right costophrenic angle is obscured by an effusion.", "Small right pleural effusion."), 1),
        (("Tiny right pleural effusion.", "Small right pleural effusion."), 1),
        (("Possible small right effusion.", "Small right pleural effusion.", "Trace right effusion is possible."), 1),
        (("Mild cardiomegaly.", "The heart is mildly enlarged.", "The heart is enlarged."), 0),
        (("2.0 cm nodule in the right apex.", "Nodule in the right upper lobe measuring 2 cm."), 0),
        (("Mild cardiomegaly.", "Severe cardiomegaly.", "Moderate cardiomegaly."), 1),
        (("Severe pulmonary edema.", "Mild pulmonary edema."), 0),
        (("Small right pleural effusion.", "Large right pleural effusion."), 1),
        (("Hemodialysis catheter ends in the right atrium.", "Dialysis catheter ends in the right atrium."), 0),
        (("Fracture of the right 5th rib.", "Fracture of the right fifth rib."), 0),
        (("The feeding tube has a coil in the stomach.", "The feeding tube is coiled in the stomach."), 0),
        (("Right PICC is present.", "Right PICC ends in the right atrium."), 1),
        (("The endotracheal tube ends 4.1 cm above the carina.", "Endotracheal tube tip 0.5 cm above the carina."), 1),
        (("The aorta is tortuous.", "Tortuosity of the thoracic aorta is noted."), 1),
        (("The aorta may be tortuous.", "Tortuosity of the aorta."), 1),
        (("The aorta is normal in caliber.", "The aorta is calcified."), 1),
        (("The aorta is calcified.", "The aorta is normal in caliber."), 0),
        (("The hila are normal.", "Hilar structures are unremarkable."), 0),
    ],
)  # fmt: skip
def test_the_same_in_other_words_is_told_once_where_most_is_said(sentences: tuple[str, ...], told: int) -> None:
    assert report(*sentences, is_abnormal=False).findings == sentences[told]


def test_one_says_more_than_two() -> None:
    both = "Small loculated right pleural effusion."
    assert report("Small right effusion.", "Loculated right pleural fluid.", both).findings == both
    assert report(both, "Small right effusion.", "Loculated right pleural fluid.").findings == both


def test_what_counts_as_a_finding_is_not_lost_to_what_does_not() -> None:
    flagged = RegionPhrase("aortic arch", "The aorta is tortuous.", True)
    unflagged = RegionPhrase("mediastinum", "Tortuous thoracic aorta.", False)
    assert assemble([flagged, unflagged]).impression == flagged.phrase
