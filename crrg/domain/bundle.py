"""A bundle's bytes after they were read and verified, before any tensor is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SENTENCE_ENCODER = "sentence_encoder"
"""Field of ``bundle.json`` that describes the encoder of sentences, where a bundle has one."""
ENCODER_WEIGHTS, ENCODER_VOCABULARY = "sentence_encoder.safetensors", "sentence_encoder_tokenizer.json"
FAST_DEVICES = "fast_devices"
"""Field of ``bundle.json`` with the kinds of devices on which its rounded weights have passed their gate."""
UNRECORDED_IMAGE_SIZE = 512
"""Longer side of the films of a bundle that does not say, pixels: what programs of its time decoded films to."""


@dataclass(frozen=True)
class BundleFiles:
    """The four stages that belong together.

    Attributes:
        bundle_id: Digest over all parts.
        spec: Parsed ``bundle.json``: ``stages`` (each stage's ``config.json``), thresholds, calibration, fused
            classifier, label set, decoding settings, preprocessing (version, golden digest, image size), registered
            versions, and ``sentence_encoder`` and ``fast_devices`` where there are such.
        files: File name (``detector.safetensors``, ``tokenizer.json``, …) to bytes.
    """

    bundle_id: str
    spec: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def image_size(self) -> int:
        """Longer side of the films that its models were trained on, pixels."""
        return recorded_image_size(self.spec) or UNRECORDED_IMAGE_SIZE

    @property
    def fast_devices(self) -> tuple[str, ...]:
        """Kinds of devices (``cpu``, ``cuda``) whose drafts by rounded weights were found as good as the exact ones."""
        return tuple(self.spec.get(FAST_DEVICES, ()))


def recorded_image_size(spec: Mapping[str, Any]) -> int:
    """Return the longer side of a bundle's films as its ``bundle.json`` has it, pixels; 0 where it does not say."""
    return int(spec["preprocessing"].get("image_size", 0))
