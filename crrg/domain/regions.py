"""The 29 anatomical regions of a frontal chest film, in the fixed order in which a report speaks of them.

Index ``i`` here is class ``i + 1`` of the detector; class 0 is background. "Left" and "right" are the patient's.

Source: Chest ImaGenome object names as used by RGRG (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping

REGIONS: tuple[str, ...] = (
    "right lung",
    "right upper lung zone",
    "right mid lung zone",
    "right lower lung zone",
    "right hilar structures",
    "right apical zone",
    "right costophrenic angle",
    "right hemidiaphragm",
    "left lung",
    "left upper lung zone",
    "left mid lung zone",
    "left lower lung zone",
    "left hilar structures",
    "left apical zone",
    "left costophrenic angle",
    "left hemidiaphragm",
    "trachea",
    "spine",
    "right clavicle",
    "left clavicle",
    "aortic arch",
    "mediastinum",
    "upper mediastinum",
    "svc",
    "cardiac silhouette",
    "cavoatrial junction",
    "right atrium",
    "carina",
    "abdomen",
)
NUM_REGIONS = len(REGIONS)
REGION_INDEX: Mapping[str, int] = {region: i for i, region in enumerate(REGIONS)}
