"""Where regions lie relative to each other: a Gaussian over all boxes of a film, learnt from the annotated ones.

From the regions that were found it says where the others should be, so that the detector knows where to look again.
Knows boxes only, never a picture; boxes are relative to the square input, 0..1.

Source: statistical shape models (Cootes et al., 1995), here on box corners.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NOISE = 0.012
"""Standard deviation of a found box's corner, relative to the film's side, before it was measured."""
LEAST_NOISE = 0.002
"""Added to the measured noise, so that no corner is believed blindly."""
LEAST_SPREAD = 0.008
"""Added to the spread in every direction, so that few training films do not make the prior sure of itself."""
UNKNOWN_SPREAD = 0.15
"""Spread of every corner on its own where too few films are fully annotated to learn from."""
MIN_FILMS = 30


class ShapePrior(nn.Module):
    """Mean and covariance of the boxes of a film.

    Attributes:
        mean_boxes: Buffer ``[R, 4]``.
        precision: Buffer ``[4 R, 4 R]``, inverse covariance of the corners.
        offset: Buffer ``[R, 4]``, mean error of found boxes.
        noise_precision: Buffer ``[4 R, 4 R]``, inverse covariance of the errors of found boxes.
    """

    mean_boxes: Tensor
    precision: Tensor
    offset: Tensor
    noise_precision: Tensor

    def __init__(self, num_regions: int) -> None:
        """Start with the whole film as every box, and no relation between boxes."""
        super().__init__()
        self.register_buffer("mean_boxes", torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(num_regions, 1))
        self.register_buffer("precision", torch.eye(4 * num_regions) / UNKNOWN_SPREAD**2)
        self.register_buffer("offset", torch.zeros(num_regions, 4))
        self.register_buffer("noise_precision", torch.eye(4 * num_regions) / LEAST_NOISE**2)

    def is_fitted(self) -> Tensor:
        """Return whether mean boxes were learnt, a bool without dimensions, where the buffers are."""
        return ((self.mean_boxes[:, :2] != 0) | (self.mean_boxes[:, 2:] != 1)).any()

    def fit(self, boxes: Tensor) -> None:
        """Learn from training boxes.

        A region that is annotated nowhere gets the hull of the others' means: the body, as far as it is known; it stays
        unrelated to them. The covariance needs at least 30 films with all the others; with fewer, none is related.

        Args:
            boxes: ``[N, R, 4]``, relative, rows of NaN where not annotated.
        """
        known = torch.isfinite(boxes).all(dim=-1, keepdim=True)
        means = torch.where(known, boxes, 0.0).sum(dim=0) / known.sum(dim=0).clamp(min=1)
        seen = known.any(dim=0)[:, 0]
        if seen.any():
            hull = torch.cat([means[seen, :2].amin(dim=0), means[seen, 2:].amax(dim=0)])
            self.mean_boxes.copy_(torch.where(seen[:, None], means, hull))
        complete = _complete_films(boxes[:, seen])
        if len(complete) >= MIN_FILMS and seen.any():
            _put(self.precision, _inverse_covariance(complete, LEAST_SPREAD), seen)

    def calibrate(self, found: Tensor, annotated: Tensor) -> None:
        """Learn how boxes err that the detector found on training films; without 30 complete films they count as exact.

        A film is complete that has a box of every region that any film has one of.

        Args:
            found: ``[N, R, 4]``, relative, before ``settle``.
            annotated: ``[N, R, 4]``, relative, rows of NaN where not annotated.
        """
        seen = torch.isfinite(annotated).all(dim=-1).any(dim=0)
        errors = _complete_films((found - annotated)[:, seen])
        if len(errors) >= MIN_FILMS and seen.any():
            self.offset[seen] = errors.mean(dim=0).reshape(-1, 4)
            _put(self.noise_precision, _inverse_covariance(errors, LEAST_NOISE), seen)

    def settle(self, boxes: Tensor, detected: Tensor) -> Tensor:
        """Return the most likely boxes in the light of how found boxes err.

        Args:
            boxes: ``[B, R, 4]``, relative.
            detected: bool ``[B, R]``; a box that was not detected has no say in where the others lie.
        """
        likely = self.complete(boxes, detected.float())
        boxes = torch.where(detected[..., None], boxes, likely + self.offset)
        deviation = (boxes - self.offset - self.mean_boxes).flatten(start_dim=1)
        system = self.precision + self.noise_precision
        # no matrix product: mixed precision would round it to three digits
        pull = (self.noise_precision * deviation[:, None, :]).sum(dim=-1)
        moved = torch.linalg.solve(system.expand(len(boxes), -1, -1), pull[..., None])[..., 0]
        return self.mean_boxes + moved.reshape(boxes.shape)

    def complete(self, boxes: Tensor, weights: Tensor) -> Tensor:
        """Return the most likely boxes of whole films, given boxes that were found.

        Args:
            boxes: ``[B, R, 4]``, relative.
            weights: Trust in each box ``[B, R]``, 0 (not found) to 1.

        Returns:
            ``[B, R, 4]``: found boxes hardly change, the others move to where the found ones want them.
        """
        trust = (weights / NOISE**2).repeat_interleave(4, dim=1)
        deviation = (boxes - self.mean_boxes).flatten(start_dim=1)
        system = self.precision + torch.diag_embed(trust)
        moved = torch.linalg.solve(system, (trust * deviation)[..., None])[..., 0]
        return self.mean_boxes + moved.reshape(boxes.shape)


def _complete_films(boxes: Tensor) -> Tensor:
    """Return the rows of ``[N, R, 4]`` without NaN, as ``[M, 4 R]``."""
    flat = boxes.flatten(start_dim=1)
    return flat[torch.isfinite(flat).all(dim=1)]


def _put(precision: Tensor, block: Tensor, seen: Tensor) -> None:
    """Write the inverse covariance of the regions ``seen`` ``[R]`` into that of all, in place."""
    corners = torch.nonzero(seen.repeat_interleave(4))[:, 0]
    precision[corners[:, None], corners] = block


def _inverse_covariance(rows: Tensor, floor: float) -> Tensor:
    rows = rows.double()
    covariance = torch.cov(rows.T) + floor**2 * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return torch.linalg.inv(covariance).float()
