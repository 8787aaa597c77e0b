"""The paper's generation module, constant for constant, as architectures.

Source: RGRG (Tanida et al., CVPR 2023), which CRRG-CLIP (Xu, Markchom, Liang, 2024) takes over.
"""

from __future__ import annotations

from crrg.config.models import DecodingSettings, DetectorArchitecture, GeneratorArchitecture, SelectorArchitecture

LOGIT_THRESHOLD_PROBABILITY = 0.2689414213699951
"""A region is selected, or abnormal, above a logit of -1."""

PAPER_DETECTOR = DetectorArchitecture(
    backbone="resnet50",
    input_size=512,
    anchor_sizes=(20, 40, 60, 80, 100, 120, 140, 160, 180, 300),
    anchor_ratios=(0.2, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.3, 1.5, 2.1, 2.6, 3.0, 5.0, 8.0),
    roi_size=8,
    roi_samples=2,
    roi_channels=0,
    representation_size=1024,
    num_proposals=1000,
    num_candidates=1000,
    num_training_proposals=2000,
    num_training_rois=512,
    positive_share=0.25,
    spatial_prior=False,
    num_refinements=0,
    score_threshold=0.0,
    region_features=True,
)

PAPER_SELECTOR = SelectorArchitecture(
    backbone="detector",
    input_size=512,
    width=2048,
    detail_channels=0,
    roi_size=8,
    roi_samples=2,
    keep_layout=False,
    margin=0.0,
    feature_size=1024,
    dropout=0.0,
    region_embedding=False,
)

PAPER_GENERATOR = GeneratorArchitecture(
    num_layers=24,
    num_heads=16,
    hidden_size=1024,
    vocab_size=50257,
    max_length=1024,
    feature_size=1024,
    condition_on_findings=False,
    position_table="wte",
    freeze_language_model=True,
)

PAPER_DECODING = DecodingSettings(
    num_beams=4,
    length_penalty=1.0,
    max_tokens=300,
    no_repeat_ngram=0,
    follow_flags=False,
    num_slots=48,
    compat="rgrg",
)
