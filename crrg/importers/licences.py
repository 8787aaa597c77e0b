"""What may be done with the weights of each kind of published checkpoint, as shown to whoever imports one."""

from __future__ import annotations

LICENCES = {
    "rgrg": "as published with the checkpoint; trained on MIMIC-CXR, whose data use agreement applies",
    "cxr-clip": (
        "CC BY-NC 4.0: these weights are for non-commercial use only, with attribution to CXR-CLIP (You et al., 2023); "
        "trained on MIMIC-CXR, some also on CheXpert and ChestX-ray14, whose terms apply"
    ),
    "chexzero": (
        "Apache-2.0 with Commons Clause: these weights may not be sold, nor a service whose value rests on them; "
        "attribution to CheXzero (Tiu et al., 2022); trained on MIMIC-CXR, whose data use agreement applies"
    ),
    "chexbert": (
        "as published with the checkpoint, by Stanford for academic research, not for commercial use; attribution to "
        "CheXbert (Smit et al., 2020); trained on reports of CheXpert and MIMIC-CXR, whose terms apply"
    ),
}
"""By the name of what was published."""
