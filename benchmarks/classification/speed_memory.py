"""Peak memory of one step over many pairs, with and without gradient caching: each in a process of its own.

Run by ``classification_speed``, or alone: ``python -m benchmarks.classification.speed_memory --pairs 1024
--cached-rows 32``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.classification.speed_training import noise_films
from crrg.config.presets import preset_training
from crrg.data.phantom.cohort import drawn_study
from crrg.domain.report import Report
from crrg.models.clip import ClipModel
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches

NUM_REPORTS = 256


def measure_memory(num_pairs: int, cached_rows: int) -> dict[str, float]:
    """Return what a process of its own found."""
    command = [sys.executable, "-m", "benchmarks.classification.speed_memory"]
    options = ["--pairs", str(num_pairs), "--cached-rows", str(cached_rows)]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def step(num_pairs: int, cached_rows: int) -> dict[str, float]:
    """Do one step of the preset ``tiny`` and return its CPU seconds and the memory it took beyond the batch, GiB."""
    torch.set_num_threads(1)
    ours = preset_training("tiny").clip
    training = ours.model_copy(
        update={
            "loop": ours.loop.model_copy(update={"batch_size": num_pairs}),
            "contrast": ours.contrast.model_copy(update={"cached_rows": cached_rows}),
        }
    )
    drawn = [drawn_study(0, index).report for index in range(NUM_REPORTS)]
    reports = [Report(findings=drawn[row % NUM_REPORTS].findings + f" Film {row}.") for row in range(num_pairs)]
    films = noise_films(reports, training.architecture.input_size)
    tokenizer = train_clip_tokenizer([report.text for report in reports], training.architecture.text_vocab_size)
    batch = ClipBatches(films, tokenizer, training, seed=0).make(0)
    torch.manual_seed(0)
    model = ClipModel(training.architecture).train()
    loss_of = clip_loss(model, films, training, torch.device("cpu"))
    # from here on the kernel counts the peak anew (Linux); what preparing the batch took does not hide it
    Path("/proc/self/clear_refs").write_text("5")
    before = _kib("VmRSS")
    start = time.process_time()
    loss, _ = loss_of(batch)
    loss.backward()
    seconds = time.process_time() - start
    return {"cpu_s": seconds, "gib": (_kib("VmHWM") - before) / 2**20, "loss": float(loss.detach())}


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--cached-rows", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(step(options.pairs, options.cached_rows)))


if __name__ == "__main__":
    main()
