"""A DICOM file as a film, or a named reason why not.

Puts the parts in their order: outer form (``dicom.structure``), rules and attributes (``dicom.header``), pixel values
(``dicom.pixels``), grey picture (``dicom.display``). Nothing of a refused file is decoded further than the rule that
refused it.
"""

from __future__ import annotations

import warnings

from crrg.data.dicom.display import display, to_grey
from crrg.data.dicom.header import (
    check_scope,
    read_acquisition,
    read_attributes,
    read_identity,
    read_layout,
    read_spacing,
    read_view,
    text_value,
)
from crrg.data.dicom.pixels import read_stored_values
from crrg.data.dicom.structure import open_dicom
from crrg.data.film import DecodedFilm
from crrg.data.images import pixel_digest
from crrg.data.privacy.burned_in import check_no_burned_in_text
from crrg.domain.study import Film
from crrg.errors import DataError, DicomError


def read_dicom_film(data: bytes, image_size: int) -> DecodedFilm:
    """Decode a chest radiograph and keep what its header says, identifiers not yet checked.

    Args:
        data: The whole file, with or without preamble.
        image_size: Longest side of the result, pixels; smaller films are not enlarged.

    Returns:
        The film with its header; laterals too, told by ``view_position``.

    Raises:
        DicomError: With the reason code of the first rule that refuses the file.
    """
    try:
        with warnings.catch_warnings():
            # pydicom's warnings quote values
            warnings.simplefilter("ignore")
            return _read(data, image_size)
    except DataError:
        raise
    except MemoryError as error:
        raise DicomError("decoding needs more memory than is allowed", code="LIMIT.MEMORY") from error
    except Exception as error:
        raise DicomError(f"decoding failed ({type(error).__name__})", code="DECODE.UNEXPECTED") from error


def _read(data: bytes, image_size: int) -> DecodedFilm:
    body = open_dicom(data)
    attributes = read_attributes(body)
    flags = check_scope(attributes)
    layout = read_layout(attributes, body)
    spacing, aspect = read_spacing(attributes)
    stored, layout = read_stored_values(body, layout)
    if layout.samples == 1 and not layout.is_signed and int(stored.max()) >> layout.bits_stored > 0:
        flags += ("bits_exceeded",)
    grey = to_grey(stored, layout, attributes)
    if text_value(attributes, "BurnedInAnnotation").upper() != "NO":
        # who declares the film free of text is believed; who says nothing is not
        check_no_burned_in_text(grey.values)
    shown = display(grey, layout, attributes, aspect, image_size)
    film = Film(
        pixels=shown.pixels,
        original_width=shown.original_width,
        original_height=shown.original_height,
        view_position=read_view(attributes),
        # the coarser axis was enlarged to make pixels square
        pixel_spacing_mm=None if spacing is None else (min(spacing), min(spacing)),
        polarity_inverted=shown.polarity_inverted,
        pixel_digest=pixel_digest(shown.pixels),
        flags=flags + shown.flags,
    )
    return DecodedFilm(film, read_identity(attributes), read_acquisition(attributes))
