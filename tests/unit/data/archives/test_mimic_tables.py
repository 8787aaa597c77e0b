"""Tables of the collection that say two things, or something that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.errors import DataError
from tests.support.mimic_tree import P1, P2, S1, S2, A, B, C, MimicTree, item_of, small_tree, source_of

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


@pytest.fixture
def tree(tmp_path: Path) -> MimicTree:
    return small_tree(tmp_path)


def test_a_split_of_another_name_is_named_and_no_patient_falls_to_the_hash(tree):
    tree.splits((A, S1, P1, "train"), (B, S1, P1, "train"), (C, S2, P2, "val"))
    with pytest.raises(DataError, match="train, validate, test") as caught:
        list(source_of(tree).items())
    assert caught.value.code == "PARSE.TABLE"


@pytest.mark.parametrize("studies", [((P1, S1), (P2, S2)), ((P2, S2), (P1, S1))])
def test_a_film_that_a_table_gives_to_two_studies_is_nobodys(tree, studies):
    tree.metadata(*((A, *ids, "PA") for ids in studies), (B, P1, S1, "PA"), (B, P1, S1, "PA"), (C, P2, S2, "AP"))
    assert item_of(tree, A).problem.code == "IDENTITY.CONFLICT"
    assert item_of(tree, B).problem is None
