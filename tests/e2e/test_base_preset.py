"""The preset `base`: generator and CLIP do one real optimiser step at the paper's sizes, word a region, encode a film.

Detector and selector are in ``tests/unit/models``. These two need gigabytes, so they are run by hand
(``make e2e-full``).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from crrg.config.data import IngestConfig
from crrg.config.models import DecodingSettings
from crrg.config.presets import preset_training
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.tokenizer import train_tokenizer
from crrg.device import seed_everything
from crrg.domain.study import Split
from crrg.inference.decoding import decode_phrases
from crrg.models.clip import ClipModel
from crrg.models.report_generator import ReportGenerator
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches
from crrg.training.optim import build_optimizer
from crrg.training.phrase_batches import PhraseSampler, collect_phrases
from crrg.training.phrase_loss import phrase_loss
from tests.support.keys import KEY

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(600)]

BASE = preset_training("base")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seeded_and_tidy() -> Iterator[None]:
    seed_everything(0)
    yield
    gc.collect()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> FilmTable:
    folder: Path = tmp_path_factory.mktemp("drawn")
    write_cohort(folder / "source", 2, 3, 256)
    storage = Storage(str(folder / "root"))
    form = IngestConfig(source=str(folder / "source"), dataset="drawn", train_share=1.0, validation_share=0.0)
    dataset = ingest(form, storage, Pseudonyms(KEY.encode())).dataset
    return load_films(storage, dataset, Split.TRAIN, BASE.clip.architecture.input_size)


def moved(before: torch.Tensor, after: torch.Tensor) -> bool:
    return bool(torch.isfinite(after).all()) and not torch.equal(before, after)


def test_the_generator_has_the_size_of_gpt_2_medium_and_learns_and_words(films: FilmTable) -> None:
    settings = BASE.generator.model_copy(
        update={"loop": BASE.generator.loop.model_copy(update={"batch_size": 2}), "num_length_buckets": 1}
    )
    model = ReportGenerator(settings.architecture)
    num_decoder = sum(parameter.numel() for parameter in model.decoder.parameters())
    # GPT-2 medium has 354.8 million; two projections of the image per layer are 24 * 2 * (1024 * 1024 + 1024) more
    assert num_decoder == pytest.approx(354_823_168 + 50_380_800, rel=0.01)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(films), 29, settings.architecture.feature_size)).astype(np.float32)
    table = collect_phrases(films, features, np.zeros((len(films), 29, 15), np.float32))
    tokenizer = train_tokenizer(table.texts, 400)
    model.fit_feature_scale(torch.from_numpy(table.features))
    optimizer = build_optimizer(model.parameters(), settings.loop)
    last = model.decoder.get_parameter(dict(model.decoder.named_parameters()).popitem()[0])
    before = last.detach().clone()
    loss = phrase_loss(model, PhraseSampler(table, tokenizer, settings).batch(0))
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert moved(before, last.detach())
    optimizer.zero_grad(set_to_none=True)
    optimizer.state.clear()
    decoding = DecodingSettings(num_beams=2, max_tokens=6, num_slots=1)
    (phrase,) = decode_phrases(
        model.eval(), tokenizer, table.features[:1], table.region_index[:1], table.reference_flags[:1], decoding
    )
    assert np.isfinite(phrase.logprob)


def test_clip_with_resnet50_and_twelve_text_layers_learns_and_encodes(films: FilmTable) -> None:
    loop = BASE.clip.loop.model_copy(update={"batch_size": 2})
    settings = BASE.clip.model_copy(update={"loop": loop})
    assert (settings.architecture.image_tower, settings.architecture.text_layers) == ("resnet50", 12)
    tokenizer = train_clip_tokenizer([report.text for report in films.texts], settings.architecture.text_vocab_size)
    model = ClipModel(settings.architecture)
    optimizer = build_optimizer(model.parameters(), loop)
    before = model.image_projection.weight.detach().clone()
    loss, parts = clip_loss(model, films, settings, CPU)(ClipBatches(films, tokenizer, settings, seed=0).make(0))
    loss.backward()
    optimizer.step()
    assert all(torch.isfinite(value) for value in parts.values())
    assert moved(before, model.image_projection.weight.detach())
    with torch.inference_mode():
        reading = model.eval().read_films(torch.from_numpy(films.images[:1])[:, None])
    assert reading.image_features.shape == (1, 512)
    assert reading.image_features.norm().item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(reading.label_logits).all()
