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
