"""How much one input may ask of whoever reads it.

Limits hold for a whole process, as its umask does: they are put in force where its settings are read
(``crrg.operations.root``), and in a decoding process by its parent.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputLimits:
    """What one film or report may be.

    Attributes:
        max_file_bytes: Bytes of a file.
        max_pixels: Pixels of a picture.
        max_depth: Sequences of DICOM within one another.
        max_elements: Elements of a DICOM file, those inside sequences included.
        max_report_characters: Characters of a report.
    """

    max_file_bytes: int = 512 * 2**20
    max_pixels: int = 100_000_000
    max_depth: int = 32
    max_elements: int = 20_000
    max_report_characters: int = 20_000

    @property
    def max_picture_bytes(self) -> int:
        """Decoded bytes of the largest picture, all its samples together."""
        return 4 * self.max_pixels

    @property
    def max_inflated_bytes(self) -> int:
        """The largest grey film and its header; a deflated data set that grows beyond is a bomb."""
        return 2 * self.max_pixels + 2**24


@dataclass(frozen=True)
class DecoderLimits:
    """What one decoding process may use.

    Attributes:
        max_memory_bytes: Its address space.
        cpu_limit_s: Processor seconds per file.
        timeout_s: Wall seconds per file, start of the process included; time in which the parent was stopped is not.
        files_per_child: Files after which it is replaced.
        niceness: By how much it steps back behind its parent where processors are short, 0 to 19.
        inputs: What a file may be.
    """

    max_memory_bytes: int = 2 * 2**30
    cpu_limit_s: int = 20
    timeout_s: float = 60.0
    files_per_child: int = 500
    niceness: int = 0
    inputs: InputLimits = InputLimits()


class InForce:
    """What holds in this process.

    Attributes:
        decoder: For its decoding processes.
    """

    def __init__(self) -> None:
        """Begin with what holds where nothing is set."""
        self.decoder = DecoderLimits()

    @property
    def inputs(self) -> InputLimits:
        """For films and reports, whoever reads them."""
        return self.decoder.inputs


in_force = InForce()
