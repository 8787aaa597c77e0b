"""Which boxes are proposed: those of each film that would be alone, whatever films lie beside it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

from crrg.models.proposals import ProposalNetwork
from tests.support.gpu_waits import GpuWaits
from tests.support.random_stages import DETECTOR, random_detector

SIZE, NUM_FILMS = DETECTOR.input_size, 5


def network() -> ProposalNetwork:
    found = random_detector().rpn
    found.min_size = 6.0
    return found


def scored(network: ProposalNetwork) -> tuple[Tensor, Tensor, Tensor]:
    """Return objectness, box codes and anchors; some boxes reach over the edge, some are too small."""
    generator = torch.Generator().manual_seed(0)
    anchors = network._anchors([torch.zeros(1, 1, 8, 8)], SIZE)
    codes = 1.5 * torch.randn(NUM_FILMS, len(anchors), 4, generator=generator)
    return torch.randn(NUM_FILMS, len(anchors), generator=generator), codes, anchors


def film_by_film(network: ProposalNetwork, objectness: Tensor, codes: Tensor, anchors: Tensor) -> list[Tensor]:
    proposals = []
    for film, chosen in enumerate(objectness.topk(network.pre_nms_top_n(), dim=1).indices):
        boxes = network.box_coder.decode(codes[film, chosen], [anchors[chosen]])[:, 0]
        boxes = clip_boxes_to_image(boxes, (SIZE, SIZE))
        large = remove_small_boxes(boxes, network.min_size)
        assert 0 < len(large) < len(boxes)
        scores = objectness[film, chosen[large]].sigmoid()
        proposals.append(boxes[large][nms(boxes[large], scores, network.nms_thresh)[: network.post_nms_top_n()]])
    return proposals


def test_films_are_decoded_together_with_the_bits_of_each_alone() -> None:
    own = network()
    given = scored(own)
    found, wanted = own._choose(*given, SIZE), film_by_film(own, *given)
    assert len({len(boxes) for boxes in wanted}) > 1
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("num_films", [1, NUM_FILMS])
def test_a_gpu_is_waited_for_once_per_film_and_thrice_besides(num_films: int) -> None:
    own = network()
    objectness, codes, anchors = scored(own)
    with GpuWaits() as waits:
        own._choose(objectness[:num_films], codes[:num_films], anchors, SIZE)
    assert waits.counts == {"nms": num_films, "mask": 2}, "and once for how many boxes each film has"


def test_a_film_of_which_every_box_is_too_small_has_no_proposal() -> None:
    own = network()
    objectness, codes, anchors = scored(own)
    codes[1, :, 2:] = -5
    found = own._choose(objectness, codes, anchors, SIZE)
    assert [len(boxes) > 0 for boxes in found] == [True, False, True, True, True]
    assert found[1].shape == (0, 4)
