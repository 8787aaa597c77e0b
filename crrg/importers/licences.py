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
    "radgraph": (
        "as published with the archive: PhysioNet's under its credentialed health data licence, which forbids sharing "
        "it, Stanford AIMI's (RRG_scorers) marked MIT; attribution to RadGraph (Jain et al., 2021) or RadGraph-XL "
        "(Delbrouck et al., 2024); trained on reports of MIMIC-CXR and others, whose terms apply"
    ),
    "resnet50": (
        "as published with the file; torchvision's are trained on ImageNet, whose terms allow non-commercial research, "
        "and its authors leave it to the user whether they may be used for a purpose"
    ),
    "gpt2": (
        "as published with the file: OpenAI's own GPT-2 under a modified MIT licence; a model trained on from it, such "
        "as on PubMed abstracts, under that of its authors"
    ),
    "bert": (
        "as published with the file: Google's BERT under Apache-2.0; Bio_ClinicalBERT under MIT, trained on MIMIC-III, "
        "whose data use agreement applies"
    ),
    "sentence-encoder": "as published with the folder: Google's BERT and Hugging Face's DistilBERT under Apache-2.0",
}
"""By the name of what was published."""
