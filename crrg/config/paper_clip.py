"""The paper's classification module, constant for constant: architecture and recipe.

Source: CXR-CLIP (You et al., MICCAI 2023), ResNet-50 variant, which CRRG-CLIP (Xu, Markchom, Liang, 2024) takes over.

What differs, since the published code does not do what it says or our data lie otherwise: sentences are really
shuffled; a study with more than two views gives two of them; films are letterboxed, not cut to a square; a second
wording comes from rules instead of two translation models; biases and normalisation weights are not decayed; a GPU
computes in bfloat16 instead of float16, with one batch normalisation per rank unless the form shares it; the towers
start from random weights unless imported ones are given; the validation loss that selects the weights is over fixed
texts and has no ICL and TCL; the label head learns on the towers' features while these are trained, not after, and
never moves them. The published seed is 1234.
"""

from __future__ import annotations

from crrg.config.contrast import ContrastConfig, SamplingConfig
from crrg.config.models import ClipArchitecture
from crrg.config.training import Augmentation, ClipTraining, LoopConfig

PAPER_CLIP = ClipArchitecture(
    image_tower="resnet50",
    input_size=224,
    pixel_mean=(0.485, 0.456, 0.406),
    pixel_std=(0.229, 0.224, 0.225),
    text_layers=12,
    text_heads=12,
    text_hidden_size=768,
    text_vocab_size=28996,
    max_text_length=256,
    text_positions=512,
    text_types=2,
    text_dropout=0.1,
    projection_size=512,
    projects_evidence=False,
    label_head="linear",
    head_dropout=0.0,
    clamp_temperature=False,
    head_moves_tower=False,
)

PAPER_SWITCHES = ("projects_evidence", "clamp_temperature", "head_moves_tower")
"""What of the architecture belongs to the recipe and not to its size."""

PAPER_CLIP_TRAINING = ClipTraining(
    architecture=PAPER_CLIP,
    loop=LoopConfig(
        batch_size=128,
        learning_rate=5e-5,
        weight_decay=1e-4,
        warmup_share=1 / 15,
        schedule="cosine",
        clip_norm=0.0,
    ),
    num_epochs=15,
    select_by="contrastive_loss",
    augmentation=Augmentation(
        scale=0.0,
        stretch=0.0,
        shift=0.0,
        gamma=0.0,
        contrast=0.2,
        noise=0.0,
        crop_area=(0.8, 1.1),
        clahe_share=0.5,
        brightness=0.1,
        contrast_about="mean",
    ),
    contrast=ContrastConfig(view_weight=1.0, text_weight=0.5, label_smoothing=0.0, multi_positive=False),
    sampling=SamplingConfig(
        num_views=2, laterals=True, num_texts=2, text_source="sections", shuffle_sentences=True, paraphrase_share=0.5
    ),
    contrastive_loss_weight=1.0,
    label_loss_weight=1.0,
    prompt_loss_weight=0.0,
    place_loss_weight=0.0,
)
