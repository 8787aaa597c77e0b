"""What is known of a film beside its pixels and its report: sex, age band and the device's maker, in fixed words.

Bands and names are all that a scorecard needs, and all that is kept. An exact age would help to find a person, and
nobody's age above 89 may be told apart; so the highest band begins well below and has no end. The maker is a name of a
list and never a header's own text, in which hospitals, devices and people can stand.

Source: 45 CFR 164.514 (b)(2)(i)(C), ages over 89 in one category.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SEXES = ("F", "M")
AGE_BANDS = ("0-15", "16-39", "40-59", "60-79", "80 and over")
"""Years; the first band is what a night flags as ``paediatric``."""
MANUFACTURERS = (
    "agfa", "canon", "carestream", "fujifilm", "ge", "hologic", "konica_minolta", "philips", "samsung", "shimadzu",
    "siemens", "swissray", "toshiba", "other",
)  # fmt: skip
"""``other`` is whoever is named and is not in the list. References count by place: a new name comes last."""
WORDS: Mapping[str, tuple[str, ...]] = {"sex": SEXES, "age_band": AGE_BANDS, "manufacturer": MANUFACTURERS}
"""Every word that a field of ``Acquisition`` may hold."""
OWN_MANUFACTURER = "CRRG-CLIP"
"""What this program names itself in DICOM objects that it makes, and knows them by when an archive sends them back."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Whom and with what a film was taken, as coarsely as a scorecard groups films.

    Attributes:
        sex: One of ``SEXES``; ``None`` where it is unknown or another one.
        age_band: One of ``AGE_BANDS``, or ``None`` where unknown.
        manufacturer: One of ``MANUFACTURERS``, or ``None`` where unknown.
    """

    sex: str | None = None
    age_band: str | None = None
    manufacturer: str | None = None

    def __post_init__(self) -> None:
        """Refuse any word but those of the lists, so that no free text can travel in here.

        Raises:
            ValueError: A field holds another word, which is not repeated.
        """
        for name, words in WORDS.items():
            if getattr(self, name) not in (None, *words):
                raise ValueError(f"{name} must be one of {', '.join(words)}, or unknown")

    @property
    def is_known(self) -> bool:
        """Whether anything is known."""
        return self != UNKNOWN

    def or_else(self, other: Acquisition) -> Acquisition:
        """Return this, and of what is unknown here what another one knows."""
        return Acquisition(
            self.sex or other.sex, self.age_band or other.age_band, self.manufacturer or other.manufacturer
        )


UNKNOWN = Acquisition()
"""Nothing is known."""
