"""What may be set about the watch over nights, and what a watch found; all of it aggregates, nothing of a patient."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crrg.config.base import FrozenConfig


class WatchSettings(FrozenConfig):
    """How a night is compared with what its models were trained on.

    Attributes:
        drift: ``warn`` says where the night differs, ``stop`` also withholds its drafts from delivery where it differs
            much, ``off`` does not compare.
        warn_psi: Population stability index from which a quantity counts as different.
        stop_psi: Index from which drafts are withheld under ``stop``.
        false_alarm_rate: Share of nights of the training population that may raise any flag; an index counts only
            where chance alone would not reach it at the night's size.
        min_patients: Fewest patients to compare; smaller nights are not judged.
        degenerate: ``refuse`` publishes no night whose drafts are all alike, empty, caught in loops or of another
            length; ``publish`` says so, and withholds them from delivery.
    """

    drift: Literal["off", "warn", "stop"] = Field("warn", title="Drift", json_schema_extra={"position": 0})
    warn_psi: float = Field(0.1, gt=0, le=5, title="Index that warns", json_schema_extra={"position": 1})
    stop_psi: float = Field(0.25, gt=0, le=5, title="Index that withholds", json_schema_extra={"position": 2})
    false_alarm_rate: float = Field(0.01, gt=0, le=0.5, title="False alarms", json_schema_extra={"position": 3})
    min_patients: int = Field(20, ge=2, title="Fewest patients to compare", json_schema_extra={"position": 4})
    degenerate: Literal["refuse", "publish"] = Field(
        "refuse", title="Degenerate drafts", json_schema_extra={"position": 5}
    )

    @model_validator(mode="after")
    def _stops_above_warning(self) -> WatchSettings:
        if self.stop_psi < self.warn_psi:
            raise ValueError("stop_psi must not be below warn_psi")
        return self


class DriftFinding(FrozenConfig):
    """One quantity of a night beside its training reference.

    Attributes:
        quantity: E.g. ``film/exposure``, ``device/manufacturer`` or ``draft/label/Edema``.
        psi: Population stability index, 0 where both are alike.
        ks: Largest distance of the two cumulated histograms, 0..1; 0 for unordered choices.
        limit: Index that chance alone exceeds too rarely to count; 0 where the index is below the warning anyway.
        level: ``ok``, ``warn`` or ``stop``.
        reference: Mean in the reference, or the share of the choice that is told.
        night: The same of the night.
        choice: Which choice that is: the most frequent one of the reference, of a label the positive one. Empty for a
            number, and in findings of before it was noted: there it is the most frequent one of a label, too.
    """

    quantity: str
    psi: float
    ks: float
    limit: float
    level: Literal["ok", "warn", "stop"]
    reference: float
    night: float
    choice: str = ""

    @property
    def shown(self) -> tuple[str, str]:
        """What is told of the reference and of the night, for people; of a choice with its name."""
        of_what = f"{self.choice} " if self.choice else ""
        return f"{of_what}{self.reference:.3g}", f"{of_what}{self.night:.3g}"


class NightWatch(FrozenConfig):
    """What a night looks like as a whole.

    Attributes:
        status: ``compared``, ``off``, ``no_reference`` where the bundle is older than the watch, or ``too_few``
            patients.
        num_patients: Patients of the compared drafts.
        findings: Every quantity, the most different first.
        faults: What makes the drafts degenerate, as sentences; empty for a good night.
        withheld: Why the drafts are withheld from delivery; empty where they are not.
        prevalence: Label to the share of drafts at or above its threshold, 0..1; empty without drafts.
        num_drafts: Films drafted.
        reference_bundle_id: Bundle with whose training population it was compared; empty where it was with none, and
            in what was found before this was noted: then that is the night's own bundle.
        num_reference_patients: Patients of that population.
    """

    status: Literal["compared", "off", "no_reference", "too_few"]
    num_patients: int = 0
    findings: tuple[DriftFinding, ...] = ()
    faults: tuple[str, ...] = ()
    withheld: str = ""
    prevalence: dict[str, float] = Field(default_factory=dict)
    num_drafts: int = 0
    reference_bundle_id: str = ""
    num_reference_patients: int = 0

    @property
    def flagged(self) -> tuple[DriftFinding, ...]:
        """The quantities that differ."""
        return tuple(each for each in self.findings if each.level != "ok")
