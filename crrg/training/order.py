"""Which rows a step trains on: a pure function of seed and step, so that a resumed run sees the same batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rows_of_step(num_rows: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Return the rows of one batch; every row comes once before any comes again.

    Args:
        num_rows: Rows to draw from, at least 1.
        batch_size: Rows per batch; may exceed ``num_rows``.
        seed: Seed of the order.
        step: 0-based step.

    Returns:
        int64 ``[batch_size]``, indices in ``0..num_rows - 1``.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(places, num_rows)
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(num_rows) for epoch in np.unique(epochs).tolist()}
    return np.array([orders[epoch][offset] for epoch, offset in zip(epochs.tolist(), offsets.tolist(), strict=True)])


def balanced_rows_of_step(
    labels: NDArray[np.float32], batch_size: int, share: float, seed: int, step: int
) -> NDArray[np.int64]:
    """Return the rows of one batch, a share of them drawn so that rare labels come as often as common ones.

    For each of these rows a label is drawn first, each that any row has alike, then a row that has it.

    Args:
        labels: float32 ``[N, K]``, 1, 0, or NaN where unknown.
        batch_size: Rows per batch.
        share: Share of the batch that is drawn by label, 0..1; 0 gives ``rows_of_step``.
        seed: Seed of the order.
        step: 0-based step.

    Returns:
        int64 ``[batch_size]``, indices in ``0..N - 1``.
    """
    rows = rows_of_step(len(labels), batch_size, seed, step)
    owners = [np.flatnonzero(column) for column in (labels == 1).T if column.any()]
    if share <= 0 or not owners:
        return rows
    rng = np.random.default_rng([seed, step, 4])
    for place in np.flatnonzero(rng.random(batch_size) < share).tolist():
        rows[place] = rng.choice(owners[rng.integers(len(owners))])
    return rows
