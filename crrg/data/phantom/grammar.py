"""Words a drawn scene as a radiologist would: one phrase per region worth a sentence, findings, impression.

Knows nothing of pixels. The wordings themselves are in ``grammar_phrases`` and ``grammar_closing``. Which normal
region is mentioned follows its importance, the view and how ill the patient looks, so that it can be learnt in part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from crrg.data.phantom import grammar_closing as closing
from crrg.data.phantom import grammar_phrases as wording
from crrg.data.phantom.scene import DrawnFinding, Scene, Side, WordedReport
from crrg.domain.regions import REGIONS
from crrg.domain.sentences import split_sentences
from crrg.domain.study import ViewPosition

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou]|8 |11 |18 )")
_LUNG_PLACES = tuple(wording.PLACE_WORDS)
_LUNG_LABELS = frozenset({"Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"})
_SPOKEN_REGIONS = {
    "widened_mediastinum": 2,
    "interstitial_edema": 2,
    "alveolar_edema": 2,
    "endotracheal_tube": 2,
    "central_line": 2,
    "pacemaker": 2,
}
"""How many of a finding's regions share its sentence; 1 for the others."""

_HABIT = 0.7
"""How much a favourite wording of a finding is preferred; 0 not at all."""

_UNCERTAIN_SHARE = {"mild": 0.25, "moderate": 0.0, "severe": 0.0}


def word_report(scene: Scene, rng: np.random.Generator) -> WordedReport:
    """Write the report of a drawn scene.

    Args:
        scene: What is on the film.
        rng: Source of all choices; the same scene and state give the same report.

    Returns:
        The report; ``findings`` are the phrases in region order, each sentence once.
    """
    worded = _word_findings(scene, rng)
    phrases: dict[str, list[str]] = {}
    abnormal: set[str] = set()
    for item in worded:
        for region in item.regions:
            phrases.setdefault(region, []).append(item.sentence)
            if item.is_abnormal:
                abnormal.add(region)
    for region, sentence in _NormalWriter(scene, rng).write().items():
        phrases.setdefault(region, []).append(sentence)
    ordered = {region: " ".join(dict.fromkeys(phrases[region])) for region in REGIONS if region in phrases}
    return WordedReport(
        indication=_indication(scene, rng),
        findings=_join(ordered),
        impression=_impression(worded, rng),
        phrases=ordered,
        abnormal_regions=frozenset(abnormal),
    )


def say(template: str, slots: dict[str, str], rng: np.random.Generator) -> str:
    """Return a sentence out of a template: choices made, slots filled, article and capital letter set right."""
    text = _CHOICE.sub(lambda match: _pick(match.group(1).split("|"), rng), template).format(**slots)
    text = _ARTICLE.sub(r"\1n ", " ".join(text.split()).replace(" ,", ",").replace(" .", "."))
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class _WordedFinding:
    findings: tuple[DrawnFinding, ...]
    sentence: str
    regions: tuple[str, ...]
    slots: dict[str, str]
    is_open: tuple[bool, ...]

    @property
    def is_abnormal(self) -> bool:
        return any(finding.label != "Support Devices" for finding in self.findings)


def _pick(options: tuple[str, ...] | list[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _word_findings(scene: Scene, rng: np.random.Generator) -> list[_WordedFinding]:
    worded: list[_WordedFinding] = []
    remaining = [part for finding in scene.findings for part in _by_side(finding)]
    while remaining:
        finding = remaining.pop(0)
        partner = _partner(finding, remaining)
        if partner is not None and rng.random() < 0.6:
            remaining.remove(partner)
            first, second = sorted((finding, partner), key=lambda item: item.kind != "patchy_opacity")
            worded.append(_word_merged(first, second, rng))
        else:
            worded.append(_word_one(finding, rng))
    return worded


def _by_side(finding: DrawnFinding) -> list[DrawnFinding]:
    """Return one finding per side, since a phrase speaks of one; edema is spoken of as a whole."""
    if finding.side != "bilateral" or finding.label == "Edema":
        return [finding]
    sides: tuple[Side, ...] = ("right", "left")
    parts = {side: tuple(region for region in finding.regions if region.startswith(side)) for side in sides}
    return [replace(finding, side=side, regions=regions) for side, regions in parts.items() if regions] or [finding]


def _partner(finding: DrawnFinding, others: list[DrawnFinding]) -> DrawnFinding | None:
    for other in others:
        is_known = (finding.kind, other.kind) in wording.MERGED or (other.kind, finding.kind) in wording.MERGED
        if is_known and finding.regions[0] == other.regions[0]:
            return other
    return None


def _word_one(finding: DrawnFinding, rng: np.random.Generator) -> _WordedFinding:
    slots = _slots(finding, rng)
    is_open = finding.kind in wording.UNCERTAIN and bool(rng.random() < _UNCERTAIN_SHARE[finding.grade])
    templates = wording.UNCERTAIN if is_open else wording.DEFINITE
    sentence = say(_common(templates[finding.kind], rng, _HABIT), slots, rng)
    return _WordedFinding((finding,), sentence, _spoken_regions(finding), slots, (is_open,))


def _word_merged(first: DrawnFinding, second: DrawnFinding, rng: np.random.Generator) -> _WordedFinding:
    slots = _slots(second, rng)
    is_open = bool(rng.random() < _UNCERTAIN_SHARE[second.grade])
    stated, left_open = wording.MERGED[first.kind, second.kind]
    sentence = say(_common(left_open if is_open else stated, rng, _HABIT), slots, rng)
    return _WordedFinding((first, second), sentence, _spoken_regions(first), slots, (False, is_open))


def _spoken_regions(finding: DrawnFinding) -> tuple[str, ...]:
    num_spoken = _SPOKEN_REGIONS.get(finding.kind, 1)
    if finding.kind == "pleural_effusion" and finding.grade == "severe":
        num_spoken = 2
    return finding.regions[:num_spoken]


def _slots(finding: DrawnFinding, rng: np.random.Generator) -> dict[str, str]:
    grade = finding.grade
    slots = {
        "side": finding.side,
        "grade": _pick(wording.GRADE_WORDS[grade], rng),
        "size": _pick(wording.SIZE_WORDS[grade], rng),
        "ly": _pick(wording.LY_WORDS[grade], rng),
        "mm": str(int(4 + 16 * finding.severity + rng.integers(0, 4))),
        "mass_cm": f"{3 + 3 * finding.severity + rng.integers(0, 5) / 10:.1f}",
        "cm": f"{2 + rng.integers(0, 40) / 10:.1f}",
        "displacement": "nondisplaced" if grade == "mild" else _pick(("displaced", "mildly displaced"), rng),
    }
    level = next((place for place in _LUNG_PLACES if finding.regions[0].endswith(place)), None)
    if level is None:
        level = "lower lung zone"
    slots["place"] = _pick(wording.PLACE_WORDS[level], rng).format(**slots)
    slots["spot"] = _pick(wording.SPOT_WORDS[level], rng).format(**slots)
    slots["rib"] = _pick(wording.RIB_WORDS.get(level, ("fifth",)), rng)
    return slots


def _indication(scene: Scene, rng: np.random.Generator) -> str:
    person = "woman" if scene.sex == "F" else "man"
    age = f"{scene.age_years}-year-old" if scene.age_years < 90 else "elderly"
    return say(f"{age} {person} with {_pick(closing.SYMPTOMS, rng)}.", {}, rng)


def _impression(worded: list[_WordedFinding], rng: np.random.Generator) -> str:
    sentences: list[str] = []
    for item in sorted(worded, key=lambda entry: not entry.is_abnormal):
        for finding, is_open in zip(item.findings, item.is_open, strict=True):
            if finding.label == "Support Devices" and rng.random() < 0.6:
                continue
            text = say(_pick(closing.IMPRESSION[finding.kind], rng), item.slots, rng)
            if is_open:
                text = f"{_pick(closing.POSSIBLE, rng)} {text[0].lower()}{text[1:]}"
            sentences.append(text)
    if not any(item.is_abnormal for item in worded):
        sentences.append(_common(closing.NORMAL_IMPRESSION, rng))
    return " ".join(dict.fromkeys(sentences))


def _common(options: tuple[str, ...], rng: np.random.Generator, steepness: float = 2.0) -> str:
    """Return one of the options, the first most often: radiologists have habits, most of all on normal films."""
    weights = 1.0 / np.arange(1, len(options) + 1) ** steepness
    return options[int(rng.choice(len(options), p=weights / weights.sum()))]


def _join(phrases: dict[str, str]) -> str:
    sentences = (sentence for phrase in phrases.values() for sentence in split_sentences(phrase))
    return " ".join(dict.fromkeys(sentences))


@dataclass
class _NormalWriter:
    """Chooses which normal regions are mentioned, and how."""

    scene: Scene
    rng: np.random.Generator
    sentences: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        findings = self.scene.findings
        self.touched = {region for finding in findings for region in finding.regions}
        self.labels = {finding.label for finding in findings}
        self.is_ill = bool(self.labels - {"Support Devices"})
        self.is_bedside = self.scene.view_position is ViewPosition.AP

    def write(self) -> dict[str, str]:
        """Return region -> normal sentence."""
        self._write_heart()
        self._write_lungs()
        self._write_pair("costophrenic angle", "pleura", "pleura one side", "Pleural Effusion", 0.95)
        apices = 0.7 if self.is_ill and not self.is_bedside else 0.93
        self._write_pair("apical zone", "apices", "apex", "Pneumothorax", apices)
        self._write_rest()
        return self.sentences

    def _is_mentioned(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _say(self, topic: str, *regions: str, **slots: str) -> None:
        sentence = say(_common(closing.NORMAL[topic], self.rng), slots, self.rng)
        for region in regions:
            self.sentences[region] = sentence

    def _write_heart(self) -> None:
        heart_is_normal = "Cardiomegaly" not in self.labels
        mediastinum_is_normal = "Enlarged Cardiomediastinum" not in self.labels
        if heart_is_normal and mediastinum_is_normal and self._is_mentioned(0.15):
            self._say("heart and mediastinum", "cardiac silhouette", "mediastinum")
            return
        if heart_is_normal and self._is_mentioned(0.95):
            self._say("heart", "cardiac silhouette")
        if mediastinum_is_normal and self._is_mentioned(0.65 if self.is_ill else 0.92):
            spoken = ("mediastinum", "upper mediastinum") if self._is_mentioned(0.15) else ("mediastinum",)
            self._say("mediastinum", *spoken)

    def _write_lungs(self) -> None:
        ill_sides = {
            side
            for finding in self.scene.findings
            for side in ("right", "left")
            if finding.label in _LUNG_LABELS and any(region.startswith(side) for region in finding.regions)
        }
        clear = [side for side in ("right", "left") if side not in ill_sides and f"{side} lung" not in self.touched]
        if len(clear) == 2 and self._is_mentioned(0.95):
            self._say("lungs", "right lung", "left lung")
        elif len(clear) == 1 and self._is_mentioned(0.85):
            self._say("lung", f"{clear[0]} lung", side=clear[0])
        for side in clear:
            for level in ("upper", "mid", "lower"):
                if f"{side} {level} lung zone" not in self.touched and self._is_mentioned(0.01):
                    self._say("zone", f"{side} {level} lung zone", side=side, level=level)

    def _write_pair(self, region: str, both: str, one: str, label: str, probability: float) -> None:
        ill = {finding.side for finding in self.scene.findings if finding.label == label}
        sides = ("right", "left")
        if not ill:
            free = [f"{side} {region}" for side in sides if f"{side} {region}" not in self.touched]
            if free and self._is_mentioned(probability):
                self._say(both, *free)
            return
        for side in sides:
            if not ill & {side, "bilateral"} and f"{side} {region}" not in self.touched and self._is_mentioned(0.5):
                self._say(one, f"{side} {region}", side=side)

    def _write_rest(self) -> None:
        is_leisurely = not self.is_ill and not self.is_bedside
        self._write_free("hila", ("right hilar structures", "left hilar structures"), 0.1 if self.is_ill else 0.65)
        self._write_free("diaphragms", ("right hemidiaphragm", "left hemidiaphragm"), 0.25 if is_leisurely else 0.06)
        if "Fracture" not in self.labels:
            bones = ("right clavicle", "left clavicle", "spine")
            self._write_free("bones", bones, 0.85 if is_leisurely else 0.1 if self.is_ill else 0.5)
        if "spine" not in self.sentences:
            self._write_free("spine", ("spine",), 0.1)
        self._write_free("aorta", ("aortic arch",), 0.6 if not self.is_ill else 0.12)
        self._write_free("trachea", ("trachea",), 0.3 if self.is_bedside else 0.08)
        self._write_free("abdomen", ("abdomen",), 0.25 if is_leisurely else 0.08)
        self._write_free("carina", ("carina",), 0.01)
        self._write_free("veins", ("svc",), 0.01)
        self._write_free("atrium", ("right atrium",), 0.03)

    def _write_free(self, topic: str, regions: tuple[str, ...], probability: float) -> None:
        if not self.touched.intersection(regions) and self._is_mentioned(probability):
            self._say(topic, *regions)
