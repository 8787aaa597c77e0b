"""One file of any accepted format as a film: the format is told by its first bytes, never by its name."""

from __future__ import annotations

from dataclasses import dataclass

from crrg.data.identity import DicomHeader
from crrg.domain.acquisition import UNKNOWN, Acquisition
from crrg.domain.study import Film
from crrg.errors import ImageError

FILM_SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
"""Names taken for films; a name without suffix is taken too, since DICOM often has none."""


@dataclass(frozen=True)
class DecodedFilm:
    """A film and, where it came as DICOM, who it belongs to.

    Attributes:
        film: The radiograph.
        header: Identifiers of the DICOM file, not yet checked; ``None`` for PNG and JPEG.
        acquisition: What the DICOM file says of sex, age and maker.
    """

    film: Film
    header: DicomHeader | None
    acquisition: Acquisition = UNKNOWN


def read_film(data: bytes, image_size: int) -> DecodedFilm:
    """Decode a DICOM, PNG or JPEG radiograph.

    Args:
        data: The whole file.
        image_size: Longest side of the result, pixels; smaller films are not enlarged.

    Raises:
        DataError: With the reason code of the first rule that refuses the file.
    """
    # codecs are loaded where films are decoded, which is a child process as a rule
    from crrg.data.pictures import is_picture, read_picture

    if not data:
        raise ImageError("the file is empty; send it again", code="EMPTY.FILE")
    # what is both a picture and DICOM is refused by the DICOM reader
    if is_picture(data) and data[128:132] != b"DICM":
        return DecodedFilm(film=read_picture(data, image_size), header=None)
    from crrg.data.dicom.film import read_dicom_film

    return read_dicom_film(data, image_size)


def may_be_film(key: str) -> bool:
    """Return whether an object's name allows a film: a known suffix, or none."""
    name = key.rsplit("/", 1)[-1].lower()
    return not name.startswith((".", "_")) and (name.endswith(FILM_SUFFIXES) or "." not in name or _is_uid(name))


def _is_uid(name: str) -> bool:
    """Return whether a name is a bare UID, as archives write them."""
    return set(name) <= set("0123456789.")
