"""One measurement in a process of its own: the bare work on every film of a folder, or a whole ingest of it.

Run: ``python -m benchmarks.ingest.measure bare|ingest FOLDER [--cores N] [--root ROOT]``; prints one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import resource
import time
from pathlib import Path

IMAGE_SIZE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("bare", "ingest"))
    parser.add_argument("source", help="folder, or for an ingest any URL")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--root", default="")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    if options.what == "bare":
        figures = bare(Path(options.source), options.cores)
    else:
        figures = whole_ingest(options.source, options.root, options.cores)
    print(json.dumps(figures))


def bare(folder: Path, cores: int) -> dict[str, float]:
    """Read, hash, decode and resize every film, split over processes that are warm; return the rate."""
    paths = sorted(folder.glob("*.dcm"))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(_bare_share, [paths[:1]] * cores, chunksize=1)
        started_s = time.perf_counter()
        pool.map(_bare_share, [paths[first::cores] for first in range(cores)], chunksize=1)
        wall_s = time.perf_counter() - started_s
    return {"films": len(paths), "wall_s": wall_s}


def _bare_share(paths: list[Path]) -> None:
    import cv2
    import imagecodecs
    import numpy as np
    from pydicom import dcmread
    from pydicom.encaps import get_frame

    cv2.setNumThreads(1)
    codecs = {"1.2.840.10008.1.2.4.70": imagecodecs.jpeg_decode, "1.2.840.10008.1.2.4.90": imagecodecs.jpeg2k_decode}
    for path in paths:
        data = path.read_bytes()
        hashlib.sha256(data).digest()
        dataset = dcmread(io.BytesIO(data))
        codec = codecs.get(str(dataset.file_meta.TransferSyntaxUID))
        if codec is None:
            pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        else:
            pixels = codec(get_frame(dataset.PixelData, 0, number_of_frames=1))
        scale = IMAGE_SIZE / max(pixels.shape)
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def whole_ingest(source: str, root: str, cores: int) -> dict[str, float]:
    """Ingest a folder or bucket into an empty root; return the rate and this process's peak memory."""
    from crrg.config.base import Settings
    from crrg.config.data import IngestConfig
    from crrg.data.privacy.deidentify import Pseudonyms
    from crrg.operations.ingest.ingest import ingest
    from crrg.storage import Storage

    config = IngestConfig(
        source=(f"folder:{source}",), dataset="speed", image_size=IMAGE_SIZE, num_workers=cores, max_failure_rate=1.0
    )
    started_s = time.perf_counter()
    summary = ingest(config, Storage(root), Pseudonyms(b"benchmark" * 4), Settings().storage)
    wall_s = time.perf_counter() - started_s
    return {
        "films": summary.num_inputs,
        "accepted": summary.num_accepted,
        "wall_s": wall_s,
        "parent_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
