"""Twenty steps of the generator stage: the recorded losses, and a draft that follows its flags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crrg.config.models import DecodingSettings, GeneratorArchitecture
from crrg.config.training import GeneratorTraining, LoopConfig
from crrg.data.tokenizer import train_tokenizer
from crrg.inference.decoding import decode_phrases
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.generator import fit_generator
from crrg.training.phrase_batches import PhraseTable, phrase_flags
from tests.support.loss_recorder import LossRecorder
from tests.support.random_stages import PHRASES

RECORDED = {1: 5.78987, 5: 4.05321, 10: 2.42346, 20: 1.45350}
"""Loss at a step; fp32 on a CPU."""


def phrase_table() -> PhraseTable:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, len(PHRASES), 200)
    flags = np.array([phrase_flags(PHRASES[kind], False) for kind in kinds])
    return PhraseTable(
        texts=[PHRASES[kind] for kind in kinds],
        film_index=np.arange(200),
        region_index=kinds.astype(np.int64),
        features=rng.normal(size=(200, 8)).astype(np.float32),
        reference_flags=flags,
        predicted_flags=np.round(flags),
    )


def test_twenty_steps(tmp_path: Path) -> None:
    table, recorder = phrase_table(), LossRecorder()
    settings = GeneratorTraining(
        architecture=GeneratorArchitecture(hidden_size=64, max_length=24, feature_size=8, dropout=0.0),
        loop=LoopConfig(num_steps=20, batch_size=32, learning_rate=5e-3, log_every=1),
        num_length_buckets=1,
        decoding=DecodingSettings(num_beams=2, num_slots=8),
    )
    tokenizer = train_tokenizer(table.texts, 400)
    folder = StageFolder(Storage(str(tmp_path)), "generator", "golden")
    model, _ = fit_generator(table, tokenizer, settings, folder, recorder, device=torch.device("cpu"), seed=7)
    assert {step: recorder.losses[step] for step in RECORDED} == pytest.approx(RECORDED, rel=2e-3)
    rows = [table.texts.index(phrase) for phrase in PHRASES]
    drafted = decode_phrases(
        model, tokenizer, table.features[rows], table.region_index[rows], table.reference_flags[rows], settings.decoding
    )
    assert [phrase.text.rstrip(".") for phrase in drafted] == [phrase.rstrip(".") for phrase in PHRASES]
