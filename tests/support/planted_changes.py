"""What goes wrong with whole nights of films, done to a DICOM file: another view, another maker, a negative."""

from __future__ import annotations

import io

import numpy as np
import pydicom


def changed(data: bytes, **tags: object) -> bytes:
    """Return a film with other values of tags."""
    film = pydicom.dcmread(io.BytesIO(data))
    for name, value in tags.items():
        setattr(film, name, value)
    buffer = io.BytesIO()
    film.save_as(buffer)
    return buffer.getvalue()


def negative(data: bytes) -> bytes:
    """Return a film of 12 bits whose header does not say that its polarity is the other one."""
    film = pydicom.dcmread(io.BytesIO(data))
    return changed(data, PixelData=(4095 - np.frombuffer(film.PixelData, "<u2")).astype("<u2").tobytes())
