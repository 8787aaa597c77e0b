"""The models of a night can be measured on a machine that decodes no DICOM, on films that are pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

LACKING = ("prefect", "mlflow", "polars", "pydicom", "s3fs", "imagecodecs", "rapidfuzz")
CODE = f"""
import sys; sys.modules.update(dict.fromkeys({LACKING}))
from benchmarks.nightly.measure import decoded, films_of
from crrg.config.running import NightlyConfig
paths = films_of(NightlyConfig(inbox=sys.argv[1]))
print([path.name for path in paths], [film.pixels.shape for film in decoded(paths, 64)])
"""


def test_pictures_are_films_where_dicom_cannot_be_decoded(tmp_path: Path) -> None:
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 72), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    (tmp_path / "truth.json").write_text("{}")
    found = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "['1.png', '2.png'] [(64, 48), (64, 48)]", found.stderr
