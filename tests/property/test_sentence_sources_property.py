"""Whatever the regions say, no sentence of their draft is without a region that said it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crrg.config.base import Compat
from crrg.domain.regions import REGIONS
from crrg.inference.assembly import RegionPhrase, assemble_as
from crrg.inference.sentence_sources import sentence_sources

SENTENCES = (
    "The lungs are clear.",
    "No pleural effusion or pneumothorax.",
    "No pleural effusion.",
    "No left pneumothorax.",
    "Heart size is normal.",
    "No acute cardiopulmonary abnormality.",
    "The right lower lung zone is clear.",
    "No acute osseous abnormality.",
    "There is a small left pleural effusion.",
    "There is a large left pleural effusion.",
    "There is a small right pneumothorax.",
    "Patchy opacity in the right lower lobe, right greater than right.",
    "Patchy opacity in the right lower lobe",
    "The heart is mildly enlarged.",
    "The aorta is tortuous without effusion.",
    "Bullae without effusion.",
    "There is free air below the diaphragm.",
    "Healed fracture of the left fifth rib.",
    "There is bibasilar",
)
PHRASES = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=3).map(" ".join)


@given(
    said=st.dictionaries(st.sampled_from(REGIONS), st.tuples(PHRASES, st.booleans()), max_size=12),
    compat=st.sampled_from(("none", "rgrg")),
    order=st.permutations(REGIONS),
)
def test_every_sentence_of_a_draft_has_its_regions(
    said: dict[str, tuple[str, bool]], compat: Compat, order: list[str]
) -> None:
    told = [RegionPhrase(region, *said[region]) for region in REGIONS if region in said]
    findings = assemble_as(compat, told, order=order).findings
    found = sentence_sources(findings, {each.region: each.phrase for each in told})
    assert " ".join(sentence for sentence, _ in found) == findings
    assert [sentence for sentence, regions in found if not regions] == []


@given(findings=st.text(), phrases=st.dictionaries(st.sampled_from(REGIONS), st.text(min_size=1), max_size=4))
def test_any_text_is_read(findings: str, phrases: dict[str, str]) -> None:
    for _, regions in sentence_sources(findings, phrases):
        assert set(regions) <= set(phrases)
