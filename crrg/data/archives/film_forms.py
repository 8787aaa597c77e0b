"""Films that lie in an archive in several forms: as DICOM, and as a picture that somebody made of it.

One form counts, DICOM before PNG before JPEG, since it has the whole depth; the others are inputs, too, and are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from crrg.data.archives.sources import SourceItem
from crrg.errors import DicomError
from crrg.storage import StoredObject

_ORDER = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")


def choose_forms(
    objects: Iterable[StoredObject], name_of: Callable[[str], str]
) -> tuple[dict[str, StoredObject], list[StoredObject]]:
    """Return one object per film, in key order, and the objects that show a film once more.

    Args:
        objects: Films in any form.
        name_of: The film's name by an object's key, the same for all forms.
    """
    films: dict[str, StoredObject] = {}
    best_first = sorted(objects, key=lambda stored: (_rank(stored.key), stored.key))
    again = [stored for stored in best_first if films.setdefault(name_of(stored.key), stored) is not stored]
    return dict(sorted(films.items(), key=lambda film: film[1].key)), again


def repeated_items(again: Iterable[StoredObject]) -> Iterator[SourceItem]:
    """Yield the objects that show a film once more, as out of scope."""
    for stored in again:
        problem = DicomError("the same film lies here in another form", code="DUPLICATE.FORM")
        yield SourceItem(stored.key, stored, problem=problem)


def _rank(key: str) -> int:
    name = key.lower()
    return next((rank for rank, suffix in enumerate(_ORDER) if name.endswith(suffix)), len(_ORDER))
