"""Region phrases become a report: order, contradictions, repetitions, impression. Expected texts by hand."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from crrg.config.base import Compat
from crrg.config.models import DecodingSettings
from crrg.data.phantom.grammar import word_report
from crrg.data.phantom.scene import Scene
from crrg.domain.regions import REGIONS
from crrg.domain.study import ViewPosition
from crrg.evaluation.labeler import label_report
from crrg.inference.assembly import (
    NORMAL_IMPRESSION,
    AssembledReport,
    RegionPhrase,
    assemble,
    assemble_as,
    assemble_published,
)
from crrg.inference.decoding import DecodedPhrase
from crrg.inference.dedup import Similarity, token_similarity
from crrg.inference.pipeline import ReportPipeline
from tests.support.spelling import spelling_vectors


def report(*phrases: str) -> AssembledReport:
    return assemble([RegionPhrase("right lung", phrase, False) for phrase in phrases])


def test_a_normal_film() -> None:
    drafted = report(
        "The lungs are clear.", "No pneumothorax.", "The lungs are clear.", "No pneumothorax.", "Heart size is normal."
    )
    assert drafted.findings == "The lungs are clear. No pneumothorax. Heart size is normal."
    assert drafted.impression == NORMAL_IMPRESSION


def test_nothing_drafted_claims_nothing() -> None:
    assert report() == AssembledReport("", "")
    assert report("", "  ") == AssembledReport("", "")


def test_a_lung_with_a_finding_is_not_clear_and_the_other_one_is() -> None:
    drafted = report("The lungs are clear.", "There is a mild patchy opacity in the left lower lobe.")
    assert drafted.findings == "The right lung is clear. There is a mild patchy opacity in the left lower lobe."
    assert drafted.impression == "Mild patchy opacity in the left lower lobe."


@pytest.mark.parametrize(
    ("normal", "finding", "expected"),
    [
        ("No pneumothorax.", "There is a large pneumothorax.", []),
        ("No pleural effusion or pneumothorax.", "Small pleural effusions.", ["No pneumothorax."]),
        ("No pleural effusion.", "Small right pleural effusion.", ["No left pleural effusion."]),
        ("No left pleural effusion.", "Small right pleural effusion.", ["No left pleural effusion."]),
        (
            "Heart size and mediastinal contours are normal.",
            "Mild cardiomegaly.",
            ["The mediastinal contours are normal."],
        ),
        ("No acute osseous abnormality.", "Displaced fracture of the left sixth rib.", []),
        ("No acute cardiopulmonary abnormality.", "Right lower lobe pneumonia.", []),
        ("The right upper lung zone is clear.", "Nodule in the right upper lobe.", []),
        (
            "The right upper lung zone is clear.",
            "Nodule in the right lower lobe.",
            ["The right upper lung zone is clear."],
        ),
        ("The lungs are clear.", "A pacemaker is in place.", ["The lungs are clear."]),
    ],
)
def test_what_remains_of_a_contradicted_sentence(normal: str, finding: str, expected: list[str]) -> None:
    assert report(normal, finding).findings == " ".join([*expected, finding])


@pytest.mark.parametrize(
    ("sentence", "finding", "expected"),
    [
        ("Left chest tube in place without pneumothorax.", "Small left pneumothorax.", ["Left chest tube in place."]),
        ("Cardiomegaly, no edema.", "Mild pulmonary edema.", ["Cardiomegaly."]),
        (
            "No pneumothorax, left chest tube remains in place.",
            "Small left pneumothorax.",
            ["Left chest tube remains in place."],
        ),
        (
            "No pneumothorax with bibasilar atelectasis.",
            "Small left pneumothorax.",
            ["Bibasilar atelectasis.", "No right pneumothorax."],
        ),
        (
            "Left chest tube in place without pneumothorax or pleural effusion.",
            "Small left pneumothorax.",
            ["Left chest tube in place.", "No left pleural effusion."],
        ),
        (
            "Left chest tube in place without pneumothorax.",
            "Small right pneumothorax.",
            ["Left chest tube in place without pneumothorax."],
        ),
        (
            "Left basilar atelectasis without focal opacity.",
            "Heart size is normal.",
            ["Left basilar atelectasis without focal opacity."],
        ),
        (
            "Left effusion without edema, and right effusion.",
            "Mild edema.",
            ["Left effusion without edema, and right effusion."],
        ),
    ],
)
def test_a_finding_is_parted_from_a_wrong_denial_where_it_can_be(
    sentence: str, finding: str, expected: list[str]
) -> None:
    assert report(sentence, finding).findings == " ".join([*expected, finding])


def test_a_possible_finding_contradicts_as_well_and_reaches_the_impression() -> None:
    drafted = report("No pleural effusion.", "There is a possible small left pleural effusion.")
    assert drafted.findings == "No right pleural effusion. There is a possible small left pleural effusion."
    assert drafted.impression == "Possible small left pleural effusion."


def test_one_thing_is_described_once() -> None:
    drafted = report(
        "The mediastinum is mildly widened.",
        "There is mild widening of the superior mediastinum.",
        "Small right pleural effusion.",
        "The right costophrenic angle is obscured by a pleural effusion.",
        "Small left pleural effusion.",
        "An endotracheal tube ends 3.0 cm above the carina.",
        "Endotracheal tube with tip 4.1 cm above the carina.",
        "A right jugular central line is present.",
    )
    assert drafted.findings == (
        "The mediastinum is mildly widened. Small right pleural effusion. Small left pleural effusion. "
        "An endotracheal tube ends 3.0 cm above the carina. A right jugular central line is present."
    )


def test_a_certain_statement_replaces_a_possible_one_of_the_same_thing() -> None:
    drafted = report("Possible pneumonia in the right lower lobe.", "Pneumonia in the right lung base.")
    assert drafted.findings == "Pneumonia in the right lung base."


def test_opacities_at_two_levels_are_two_things() -> None:
    first, second = "Mild right upper lobe opacity.", "Mild right lower lobe opacity."
    assert report(first, second).findings == f"{first} {second}"


def test_denials_that_others_make_are_not_repeated() -> None:
    drafted = report("Lungs are clear bilaterally.", "The right mid lung zone is clear.", "The lungs are clear.")
    assert drafted.findings == "Lungs are clear bilaterally."
    both = report("The cardiomediastinal silhouette is normal.", "Heart size is normal.", "The hila are normal.")
    assert both.findings == "The cardiomediastinal silhouette is normal. The hila are normal."
    zones = report("The right upper lung zone is clear.", "The right lower lung zone is clear.")
    assert zones.findings == "The right upper lung zone is clear. The right lower lung zone is clear."


def test_devices_alone_leave_the_impression_normal() -> None:
    said = ("A pacemaker is in place.", "The lungs are clear.", "Heart size is normal.")
    assert report(*said) == AssembledReport(" ".join(said), NORMAL_IMPRESSION)


@pytest.mark.parametrize(
    "sentences",
    [
        ("The lungs are clear.", "Heart size is normal."),
        ("The right lung is clear.", "The left lung is clear.", "The cardiac silhouette is within normal limits."),
        ("The costophrenic angles are sharp.", "The cardiomediastinal silhouette is normal."),
        ("No right pneumothorax.", "No left pneumothorax.", "The heart is normal in size.", "The trachea is midline."),
        ("No acute cardiopulmonary process.",),
        ("Normal heart and lungs.",),
        ("The lungs are clear.", "The cardiac, mediastinal and hilar contours are normal."),
        ("The lungs are clear.", "Cardiac, mediastinal, and hilar contours are unremarkable."),
    ],
)
def test_a_chest_that_is_called_normal_is_so_in_the_impression(sentences: tuple[str, ...]) -> None:
    assert report(*sentences) == AssembledReport(" ".join(sentences), NORMAL_IMPRESSION)


@pytest.mark.parametrize(
    "sentences",
    [
        ("The trachea is midline.",),
        ("The lungs are clear.",),
        ("Heart size is normal.", "The hila are normal."),
        ("The right lung is clear.", "Heart size is normal."),
        ("No right pleural effusion.", "The left lung is clear.", "Heart size is normal."),
        ("The lungs are clear.", "The mediastinal contours are normal."),
        ("The right lower lung zone is clear.", "The left lower lung zone is clear.", "Heart size is normal."),
        ("An endotracheal tube is in place.", "No pneumothorax."),
        ("Frontal view of the chest.",),
    ],
)
def test_what_nothing_says_is_not_claimed(sentences: tuple[str, ...]) -> None:
    assert report(*sentences) == AssembledReport(" ".join(sentences), "")


def test_drawn_normal_reports_keep_their_impression_where_they_speak_of_the_heart() -> None:
    num_normal = 0
    for index in range(100):
        scene = Scene(index, index, ViewPosition.PA, 50, "F", ())
        worded = word_report(scene, np.random.default_rng(index))
        drafted = assemble([RegionPhrase(region, phrase, False) for region, phrase in worded.phrases.items()])
        assert bool(drafted.impression) == (label_report(worded.findings)["Cardiomegaly"] is not None)
        num_normal += drafted.impression == NORMAL_IMPRESSION
    assert num_normal >= 90


def test_a_sentence_that_was_cut_off_goes() -> None:
    drafted = report("Small left pleural effusion. There is a mild", "No pneumothorax")
    assert drafted.findings == "Small left pleural effusion. No pneumothorax."


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("Bibasilar opacities, right greater than right.", "Bibasilar opacities."),
        ("Bibasilar opacities left greater than the left.", "Bibasilar opacities."),
        ("Bibasilar opacities, right greater than left.", "Bibasilar opacities, right greater than left."),
        ("Opacities, on the left more than the right.", "Opacities, on the left more than the right."),
    ],
)  # fmt: skip
def test_no_side_is_compared_with_itself(phrase: str, said: str) -> None:
    assert report(phrase).findings == said


def test_regions_are_told_of_in_the_order_of_an_archives_reports() -> None:
    phrases = [
        RegionPhrase("right lung", "Patchy opacity in the right lung.", True),
        RegionPhrase("spine", "Mild degenerative changes.", False),
        RegionPhrase("cardiac silhouette", "The heart is enlarged.", True),
    ]
    order = ("cardiac silhouette", *(region for region in REGIONS if region != "cardiac silhouette"))
    texts = [phrase.phrase for phrase in phrases]
    assert assemble_as("none", phrases, order=order).findings == " ".join([texts[2], *texts[:2]])
    assert assemble_as("none", phrases, order=order).impression.startswith("The heart is enlarged.")
    assert assemble_as("none", phrases).findings == " ".join(texts)
    assert assemble_as("rgrg", phrases, order=order).findings == " ".join(texts), "the published way has its own"


def published(*phrases: str, similarity: Similarity | None = None) -> AssembledReport:
    return assemble_published([RegionPhrase("right lung", phrase, False) for phrase in phrases], similarity)


def test_the_published_way_drops_repeats_and_nothing_else() -> None:
    phrases = (
        "The lungs are clear. No effusion.",
        "Small left effusion.",
        "The lungs are clear.",
        "",
        "Heart is normal",
    )
    # what contradicts stays, what was cut off stays, and there is no impression
    assert published(*phrases) == AssembledReport(
        "The lungs are clear. No effusion. Small left effusion. Heart is normal", ""
    )
    assert published() == published("  ") == AssembledReport("", "")


def test_the_published_way_takes_the_similarity_it_is_given() -> None:
    sentences = ("The right lung is clear.", "The left lung is clear.")
    assert published(*sentences).findings == " ".join(sentences), "sides are never equated by words"
    same = published(*sentences, similarity=lambda found: np.ones((len(found), len(found))))
    assert same.findings == sentences[0], "of two similar sentences the longer stays"


def test_a_pipeline_makes_reports_as_its_decoding_says() -> None:
    def pipeline(compat: Compat, repeats: Similarity | None = None) -> ReportPipeline:
        parts = {field.name: None for field in fields(ReportPipeline)} | {"order": REGIONS[::-1]}
        return ReportPipeline(**{**parts, "decoding": DecodingSettings(compat=compat), "repeats": repeats})

    texts = ["There is a small left pleural effusion.", "No pleural effusion or pneumothorax."]
    phrases = {place: DecodedPhrase(text, -0.1, True) for place, text in enumerate(texts)}
    flags = np.zeros((29, 15))
    assert pipeline("none")._assemble(phrases, flags) == (
        "No pneumothorax. No right pleural effusion. There is a small left pleural effusion.",
        "Small left pleural effusion.",
    ), "in the order that the generator learnt"
    assert pipeline("rgrg")._assemble(phrases, flags) == (" ".join(texts), "")
    encoded = token_similarity(spelling_vectors)
    twins = {0: DecodedPhrase("Lung is clear.", -0.1, True), 1: DecodedPhrase("Lungs is clear.", -0.1, True)}
    assert pipeline("rgrg")._assemble(twins, flags) == ("Lung is clear. Lungs is clear.", "")
    scores = encoded(["Lung is clear.", "Lungs is clear."])
    assert (scores[0, 1] > 0.9) == (pipeline("rgrg", encoded)._assemble(twins, flags) == ("Lungs is clear.", ""))
