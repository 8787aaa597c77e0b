"""Which parts of a film a drafted sentence rests on, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class SentenceEvidence:
    """What happens to one sentence and its region when a part of the film is hidden.

    Cells lie over the film from its top left corner, row by row, each ``1 / G`` of its height and width.

    Attributes:
        region: The region that the sentence was drafted for, one of ``REGIONS``.
        is_abnormal: Whether it was drafted as abnormal.
        wording_falls: How far the mean log-probability per token of the sentence falls, ``[G, G]``; below 0 where it
            becomes likelier.
        abnormality_falls: How far the region's abnormality falls, in log-odds, ``[G, G]``.
    """

    region: str
    is_abnormal: bool
    wording_falls: FloatArray
    abnormality_falls: FloatArray

    @property
    def heat(self) -> FloatArray:
        """Return how much rests on each cell, ``[G, G]`` in 0..1, 1 for the cell with most; 0 where nothing does.

        What an abnormal sentence rests on is what makes its region abnormal, which on drawn films points better at the
        finding than its words do; of a normal sentence there are the words alone.
        """
        falls = np.clip(self.abnormality_falls if self.is_abnormal else self.wording_falls, 0, None)
        most = float(falls.max(initial=0.0))
        return np.asarray(falls / most if most > 0 else np.zeros_like(falls))
