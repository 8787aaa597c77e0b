"""How a language model that is imported should learn: not at all, by low-rank updates, or as a whole.

A GPT-2 learns the sentences of Open-i's real reports, is imported as any is (``crrg import gpt2``), and becomes the
generator of a finished root in four ways: ``frozen`` but for what looks at the film (the paper's way), ``low-rank``
updates beside the frozen weights, ``whole`` with all weights, and ``afresh`` from random ones with a vocabulary of its
own. Each is trained with two rates under one seed, goes on with the rate whose validation drafts are better, under
three seeds, and is scored on the fresh films of the root with the rest of its bundle. Goes on where it was stopped.
Run: ``CRRG_OPEN_DATA=FOLDER python -m benchmarks.adapted_language --root ROOT [--preset tiny] [--steps 300]``
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from benchmarks.classification.rounds import finished_stages, score_drafts_and_labels
from benchmarks.resumable import Table
from benchmarks.roots import find_bundle
from crrg.config.references import BundleRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import dataset_image_size, read_pairs, resolve_dataset
from crrg.data.tokenizer import PhraseTokenizer, train_tokenizer
from crrg.device import resolve_device
from crrg.domain.sentences import split_sentences
from crrg.domain.study import Film, Pair, Split
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.registry.importing import import_checkpoint
from crrg.registry.composing import compose_bundle
from crrg.storage import Storage
from crrg.training.generator import train_generator
from crrg.training.tracker import NullTracker

LAYERS, WIDTH, HEADS, WORDS, POSITIONS = 4, 128, 2, 1024, 64
BATCH, SHOWN_BATCHES = 64, 50
PRETRAINING_RATE = 3e-3
RATES = (1e-3, 4e-3)
SEEDS = (0, 1, 2)
RANK = 8
WAYS: Mapping[str, dict[str, Any]] = {
    "frozen": {"freeze": True},
    "low-rank": {"freeze": True, "lora_rank": RANK},
    "whole": {"freeze": False},
    "afresh": {},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument(
        "--bundle", default="", help="whose other parts are used; empty takes the champion, else the newest"
    )
    parser.add_argument("--preset", choices=("tiny", "small"), default="tiny", help="of the root")
    parser.add_argument("--language-steps", type=int, default=2000, help="of the language model alone")
    parser.add_argument("--steps", type=int, default=300, help="of each generator")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    storage = Storage(options.root)
    bundle = find_bundle(storage, options.bundle)
    folder = Path(storage.root) / f"adapted-language-{bundle.bundle_id[:8]}-{options.steps}"
    folder.mkdir(exist_ok=True)
    table = Table(folder / "table.json")
    table.fill("language model", lambda: learn_language(folder, options.language_steps))
    trial = Trial(storage, bundle, folder, options)
    for way in WAYS:
        for rate in RATES:
            table.fill(f"{way}, {rate:g}", lambda way=way, rate=rate: trial.validation(way, rate, SEEDS[0]))
        best = max(RATES, key=lambda rate: table.rows[f"{way}, {rate:g}"]["clinical_micro_f1"])
        for seed in SEEDS:
            table.fill(f"{way}, seed {seed}", lambda way=way, rate=best, seed=seed: trial.score(way, rate, seed))
    sys.stdout.write(summary(table.rows))
    return 0


def learn_language(folder: Path, num_steps: int) -> dict[str, Any]:
    """Teach a GPT-2 the sentences of real reports, and import it into ``folder/gpt2``.

    Args:
        folder: For the file as it would be published, its vocabulary and the import.
        num_steps: Batches of sentences.

    Returns:
        Sentences, and the perplexity per token of the last batches.
    """
    with (Path(os.environ["CRRG_OPEN_DATA"]) / "openi" / "reports.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[section] for row in csv.DictReader(file) for section in ("findings", "impression")]
    sentences = sorted({sentence for text in texts for sentence in split_sentences(text)})
    tokenizer = train_tokenizer(sentences, WORDS)
    torch.manual_seed(SEEDS[0])
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=tokenizer.vocab_size, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
            bos_token_id=tokenizer.end_id, eos_token_id=tokenizer.end_id,
        )
    )  # fmt: skip
    losses = _fit_language(model, tokenizer, sentences, num_steps)
    published = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.transformer.state_dict().items()}, published)
    (folder / "tokenizer.json").write_bytes(tokenizer.to_bytes())
    import_checkpoint("gpt2", published, folder / "gpt2", folder / "tokenizer.json")
    return {"sentences": len(sentences), "perplexity": float(np.exp(np.mean(losses[-SHOWN_BATCHES:])))}


def _fit_language(
    model: GPT2LMHeadModel, tokenizer: PhraseTokenizer, sentences: list[str], num_steps: int
) -> list[float]:
    """Train next words on batches of sentences, framed as phrases are; return the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PRETRAINING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PRETRAINING_RATE, total_steps=num_steps)
    generator = np.random.default_rng(SEEDS[0])
    end, losses = tokenizer.end_id, []
    for _ in range(num_steps):
        chosen = [sentences[index] for index in generator.choice(len(sentences), BATCH)]
        rows = tokenizer.encode_phrases(chosen, POSITIONS)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows])
        is_word = torch.arange(1, longest) < torch.tensor([[len(row)] for row in rows])
        logits = model(input_ids=ids[:, :-1]).logits
        loss = cross_entropy(logits[is_word], ids[:, 1:][is_word])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


class Trial:
    """A root whose generator is trained in several ways beside its other parts."""

    def __init__(self, storage: Storage, bundle: BundleRef, folder: Path, options: argparse.Namespace) -> None:
        self.storage, self.folder, self.options = storage, folder, options
        self.stages = finished_stages(storage, bundle.bundle_id)
        self.dataset = resolve_dataset(storage, "demo", "")
        self.films: list[tuple[Pair, Film]] = [
            (pair, pair.film)
            for pair in read_pairs(storage, resolve_dataset(storage, "demo-fresh", ""), Split.TEST)
            if pair.film is not None
        ]

    def validation(self, way: str, rate: float, seed: int) -> dict[str, Any]:
        """Return the validation figures of a training."""
        result = self._train(way, rate, seed)
        return {name.removeprefix("generation/"): value for name, value in result.metrics.items()}

    def score(self, way: str, rate: float, seed: int) -> dict[str, Any]:
        """Return the figures of a training's drafts of the fresh films."""
        result = self._train(way, rate, seed)
        stages, image_size = {**self.stages, "generator": result}, dataset_image_size(self.storage, self.dataset)
        bundle = compose_bundle(self.storage, stages, dataset_version=self.dataset.version, image_size=image_size)
        figures = score_drafts_and_labels(ReportPipeline.from_bundle(bundle, resolve_device("cpu")), self.films)
        drafted = {name: figures[name] for name in ("f1", "f1_low", "f1_high", "bleu_4")}
        return {"rate": rate, **drafted, "seconds": result.duration_s}

    def _train(self, way: str, rate: float, seed: int) -> StageResult:
        start = {"generator": str(self.folder / "gpt2"), "freeze_language_model": WAYS[way].get("freeze", False)}
        sizes = {"num_layers": LAYERS, "num_heads": HEADS, "hidden_size": WIDTH}
        form = TrainStageConfig.model_validate(
            {
                "preset": self.options.preset, "seed": seed, "device": "cpu", "num_steps": self.options.steps,
                "learning_rate": rate, "initial_weights": start if way != "afresh" else {},
                "generator": {
                    "architecture": sizes if way == "afresh" else {}, "lora_rank": WAYS[way].get("lora_rank"),
                },
            }
        )  # fmt: skip
        parts = self.stages["detector"], self.stages["selector"]
        return train_generator(form, self.dataset, *parts, self.storage, NullTracker())


def summary(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the ways' figures as a Markdown table: means over the seeds, and smallest and largest."""
    language = rows["language model"]
    lines = [
        f"{language['sentences']} sentences of real reports, perplexity {language['perplexity']:.1f}",
        "",
        "| way | rate | clinical micro-F1 | BLEU-4 | training, s |",
        "| --- | ---: | --- | --- | ---: |",
    ]
    for way in WAYS:
        scored = [rows[f"{way}, seed {seed}"] for seed in SEEDS]
        spread = {name: _spread([row[name] for row in scored]) for name in ("f1", "bleu_4")}
        seconds = np.mean([row["seconds"] for row in scored])
        lines.append(f"| {way} | {scored[0]['rate']:g} | {spread['f1']} | {spread['bleu_4']} | {seconds:.0f} |")
    lines += ["", json.dumps(rows)]
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    raise SystemExit(main())
