"""The process in which foreign files are decoded: limited, nameless, replaceable.

Reads jobs from standard input and their files from shared memory, and answers on standard output as length-prefixed
bytes (``decoding.pool`` is the other end). Memory, processor time and open files are limited by the kernel, so that a
hostile file ends this process and nothing else. Holds no credentials and can open no network connection
(``decoding.isolation``).
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from dataclasses import asdict
from typing import BinaryIO

from crrg.data.decoding.isolation import Isolation, give_up_rights, leave_network
from crrg.data.decoding.limits import DecoderLimits, InputLimits, in_force
from crrg.data.film import DecodedFilm, read_film
from crrg.errors import DataError

LENGTH = struct.Struct(">Q")
_NOT_NEEDED = ("requests", "tqdm")
"""Libraries that pydicom fetches its example files with; with what they need they are a fifth of a process's start."""
JOB = struct.Struct(">QIH")
"""Header of a job: bytes of the file, image size, place. An image size of 0 asks what this process is and can."""


def main() -> None:
    """Serve jobs until standard input ends.

    Arguments: memory in bytes, processor seconds per file, what a file may be as JSON, descriptors of the places in
    shared memory where files lie.
    """
    max_memory_bytes, cpu_limit_s = map(int, sys.argv[1:3])
    in_force.decoder = DecoderLimits(max_memory_bytes, cpu_limit_s, inputs=InputLimits(**json.loads(sys.argv[3])))
    places = [int(descriptor) for descriptor in sys.argv[4:]]
    own_network = leave_network()
    jobs, answers = _take_over_streams()
    _load_codecs()
    isolation = give_up_rights(max_memory_bytes, own_network=own_network)
    while len(head := jobs.read(JOB.size)) == JOB.size:
        num_bytes, image_size, place = JOB.unpack(head)
        _limit_cpu(cpu_limit_s)
        data = os.pread(places[place], num_bytes, 0)
        if len(data) < num_bytes:
            return
        for block in _answer(data, image_size) if image_size else _report(isolation):
            answers.write(LENGTH.pack(len(block)))
            answers.write(block)
        answers.flush()


def _take_over_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for ourselves, so that a codec's chatter cannot reach the parent."""
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    return sys.stdin.buffer, answers


def _load_codecs() -> None:
    """Import and use once what decoding needs, while files may still be opened."""
    for library in _NOT_NEEDED:
        sys.modules[library] = None  # type: ignore[assignment]
    import crrg.data.dicom.film
    import crrg.data.pictures  # noqa: F401 - loaded for its effect
    from crrg.data.dicom.codecs import load_codecs

    load_codecs()


def _limit_cpu(cpu_limit_s: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used_s + cpu_limit_s, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _answer(data: bytes, image_size: int) -> tuple[bytes, bytes]:
    """Return a description as JSON and the pixels, which are empty where the file was refused."""
    try:
        decoded = read_film(data, image_size)
    except DataError as error:
        return _json({"error": type(error).__name__, "reason": error.reason, "code": error.code}), b""
    except MemoryError:
        return _json({"error": "DicomError", "reason": "decoding needs too much memory", "code": "LIMIT.MEMORY"}), b""
    return _json(_describe(decoded)), decoded.film.pixels.tobytes()


def _report(isolation: Isolation) -> tuple[bytes, bytes]:
    """Say which measures took effect and which transfer syntaxes decode in here."""
    from crrg.data.dicom.codecs import check_syntaxes

    problems = {check.syntax.uid: check.problem for check in check_syntaxes()}
    return _json({"isolation": asdict(isolation), "problems": problems}), b""


def _describe(decoded: DecodedFilm) -> dict[str, object]:
    film, header = decoded.film, decoded.header
    return {
        "shape": film.pixels.shape,
        "original_size": (film.original_width, film.original_height),
        "view_position": film.view_position.value,
        "pixel_spacing_mm": film.pixel_spacing_mm,
        "polarity_inverted": film.polarity_inverted,
        "flags": film.flags,
        "acquisition": asdict(decoded.acquisition),
        "header": header and (header.patient_id, header.study_instance_uid, header.sop_instance_uid, header.names),
    }


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode()


if __name__ == "__main__":
    main()
