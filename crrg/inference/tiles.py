"""How many films a network reads at once.

Films are read in tiles of one size, filled up with copies, so that what is said of a film depends neither on its
neighbours nor on how many there are. On a CPU the size is fixed, as the last digits depend on it: large films are read
one by one, where filling up would cost seconds, and more at once gain a twentieth. On a GPU, which is slow with few
films, it follows from the free memory; where somebody waits for few films they go there in small tiles, and then agree
within 1e-5. A night's never do, since its digest must not depend on how it was cut into shards.
"""

from __future__ import annotations

import torch

from crrg.config.base import Precision
from crrg.device import free_memory

TILE_SIZE = 16
LARGE_INPUT = 384
"""Side of a film, pixels, from which a CPU reads films one by one."""
MOST_FILMS = 32
"""More at once keep a large GPU no busier, and the rest of a night's window would be filled up to as many."""
SMALL_TILE = 8
"""Films that a GPU reads at once where there are few."""
PIXEL_BYTES = 1024
"""Memory that a pixel of a film takes at most: three maps as wide as ResNet-50's first stage, and as much again for
what its libraries set aside."""


def films_per_tile(side: int, device: torch.device) -> int:
    """Return how many films of ``side`` pixels a network reads at once on a device; on a GPU a power of two.

    Whoever reads the tiles halves them where memory falls short all the same (``crrg.device.in_tiles``).
    """
    if device.type != "cuda":
        return 1 if side >= LARGE_INPUT else TILE_SIZE
    most = min(free_memory(device) // (PIXEL_BYTES * side**2), MOST_FILMS)
    return 1 << max(most.bit_length() - 1, 0)


def tile_size(num_films: int, side: int, device: torch.device, precision: Precision, *, may_be_small: bool) -> int:
    """Return the size of the tiles in which films are read; a GPU need not fill up fewer than half a tile.

    They go in small tiles there, one film alone, which changes last digits. Of bfloat16 that is the third, so that its
    tiles keep their size.

    Args:
        num_films: Films to read.
        side: Of a film, pixels.
        device: Where they are read.
        precision: In which they are read.
        may_be_small: Whether last digits may depend on how many films there are.
    """
    most = films_per_tile(side, device)
    if not may_be_small or device.type != "cuda" or precision == "fast" or 2 * num_films >= most:
        return most
    return 1 if num_films == 1 else min(SMALL_TILE, most)
