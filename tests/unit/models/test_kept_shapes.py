"""Products of ever new shapes do not make a process grow: few of what oneDNN prepares for each are kept."""

from __future__ import annotations

import os
import subprocess
import sys

from crrg.models.products import KEPT_SHAPES

SCRIPT = """
from pathlib import Path
import torch
from crrg.models.products import affine

def resident_kib():
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("RssAnon")]
    return int(line.split()[1])

torch.set_num_threads(1)
weight = torch.ones(256, 96)
with torch.no_grad():
    for rows in range(2, 1200):
        affine(torch.ones(rows, 96), weight, None, "gelu")
        if rows == 300:
            before = resident_kib()
print(resident_kib() - before)
"""


def growth_kib(**variables: str) -> int:
    """Return by how much a process grows over 900 shapes, after 300 others."""
    kept = {name: value for name, value in os.environ.items() if name not in KEPT_SHAPES}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_process_hardly_grows_with_the_shapes_of_its_products() -> None:
    assert growth_kib() < 0.4 * growth_kib(**dict.fromkeys(KEPT_SHAPES, "1024"))
