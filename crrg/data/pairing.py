"""One input and its decoded film become one row, or a named reason why not.

The last place where a source's identifiers and names exist: here they become pseudonyms and masks. Knows no store, no
pool and no labeler; what labels a text is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from crrg.data.archives.notes import sentences_of_picture
from crrg.data.archives.sources import SourceItem
from crrg.data.dataset.split import SplitShares, SplitWish, split_of
from crrg.data.film import DecodedFilm
from crrg.data.film_ids import Ids, ids_of_content, ids_of_header
from crrg.data.identity import DicomHeader, check_identity
from crrg.data.pair_grounding import ground_pair
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import REASON, SENTENCE, ForgottenPatients
from crrg.data.privacy.person_masks import check_masked, mask_text
from crrg.data.reports.language import check_language
from crrg.data.reports.sections import clean_text
from crrg.domain.acquisition import UNKNOWN
from crrg.domain.boxes import BoxXyxy
from crrg.domain.labels import NO_FINDING, LabelValues
from crrg.domain.report import Language, Report
from crrg.domain.study import Film, Pair, RegionAnnotation, ViewPosition
from crrg.errors import AnnotationError, IdentityError, ReportError

Labeler: TypeAlias = Callable[[str], LabelValues]
"""Labels of a text by label name; ``None`` or absent = unmentioned."""

BOX_TOLERANCE_PIXELS = 1.0
SHAPE_TOLERANCE = 0.01
"""How far, relative to its height, a smaller copy may differ in shape from the film that boxes were measured on."""


@dataclass(frozen=True)
class PairingRules:
    """What a pair depends on beside its input.

    Attributes:
        pseudonyms: Turns identifiers into pseudonyms.
        label: Labels a text where the archive brings no labels.
        seed: Seed of the split.
        shares: How large the splits are.
        use_published_split: Whether an archive's own split is kept.
        grounding: How films without a scene graph get regions: ``auto``, ``phrases`` or ``off``, as in the form.
        languages: Languages of reports that are let in beside English.
        forgotten: Patients whose inputs are refused.
    """

    pseudonyms: Pseudonyms
    label: Labeler
    seed: int
    shares: SplitShares
    use_published_split: bool
    grounding: Literal["auto", "phrases", "off"] = "off"
    languages: tuple[Language, ...] = ("en",)
    forgotten: ForgottenPatients | None = None


def identify(item: SourceItem, header: DicomHeader | None, site: str, content: str, pseudonyms: Pseudonyms) -> Ids:
    """Return pseudonyms: of an archive that names all three, else DICOM's, then the table's, then the content's.

    Args:
        item: What the archive says.
        header: Identifiers of its film; ``None`` where it is no DICOM file, or there is no film.
        site: Where identifiers of the archive's tables are valid.
        content: Hex sha256 of the film's bytes, or of the report's text.
        pseudonyms: Makes them.

    Raises:
        IdentityError: IDENTITY.MISSING or IDENTITY.INVALID.
    """
    if item.film is None:
        return _identify_text(item, site, content, pseudonyms)
    if item.instance_id:
        return Ids(
            pseudonyms.patient(item.patient_id, site),
            pseudonyms.study(item.study_id, site),
            pseudonyms.instance(item.instance_id, site),
        )
    if header is not None:
        check_identity(replace(header, patient_id=header.patient_id or item.patient_id))
        ids = ids_of_header(header, pseudonyms)
        return ids if header.patient_id else ids._replace(patient_id=pseudonyms.patient(item.patient_id, site))
    ids = ids_of_content(content, pseudonyms)
    return Ids(
        pseudonyms.patient(item.patient_id, site) if item.patient_id else ids.patient_id,
        pseudonyms.study(item.study_id, site) if item.study_id else ids.study_id,
        ids.instance_id,
    )


def text_digest(item: SourceItem) -> bytes:
    """Return the sha256 of what an archive says in words of an input, which identifies one without a film."""
    report = item.report
    text = "\0".join((report.findings or "", report.impression or "", report.indication or "", item.notes))
    return hashlib.sha256(text.encode()).digest()


def _identify_text(item: SourceItem, site: str, content: str, pseudonyms: Pseudonyms) -> Ids:
    """Return pseudonyms of a report without a film; one without a study is a study of its patient's own."""
    if not item.patient_id:
        raise IdentityError("a report without film names no patient", code="IDENTITY.MISSING")
    study_id = item.study_id or f"report\0{item.patient_id}\0{content}"
    return Ids(
        pseudonyms.patient(item.patient_id, site),
        pseudonyms.study(study_id, site),
        pseudonyms.instance(f"report\0{study_id}", site),
    )


class PairBuilder:
    """Builds the pairs of one dataset, each by itself; what equal films mean is the subject of ``duplicates``."""

    def __init__(self, rules: PairingRules) -> None:
        """Build by these rules."""
        self._rules = rules

    def build(self, item: SourceItem, kind: str, site: str, decoded: DecodedFilm | None, source_digest: bytes) -> Pair:
        """Make the row of one input.

        Args:
            item: What the archive says.
            kind: Kind of archive.
            site: Where identifiers of the archive's tables are valid.
            decoded: Its film; ``None`` in a text-only item.
            source_digest: sha256 of the film's bytes, or of the report's text.

        Raises:
            DataError: IDENTITY, REPORT, LANG, LIMIT or GEOMETRY.
        """
        header = decoded.header if decoded else None
        ids_by = partial(identify, item, header, site, source_digest.hex())
        ids = ids_by(self._rules.pseudonyms)
        forgotten = self._rules.forgotten
        if forgotten is not None and forgotten.tell(lambda pseudonyms: ids_by(pseudonyms).patient_id):
            raise IdentityError(SENTENCE, code=REASON)
        names = header.names if header else ()
        report = Report(
            findings=_clean(item.report.findings, names),
            impression=_clean(item.report.impression, names),
            indication=_clean(item.report.indication, names),
        )
        is_english = check_language(report.text, self._rules.languages)
        if item.notes:
            report = replace(report, impression=report.impression or self._read_notes(item.notes, names))
        if decoded is None and not report.text:
            raise ReportError("there is neither a film nor findings or impression", code="REPORT.EMPTY")
        film = None
        if decoded is not None:
            film = replace(decoded.film, view_position=_settled_view(item.view_position, decoded.film.view_position))
        labels, label_source = self._label(item, report, is_english)
        pair = Pair(
            patient_id=ids.patient_id,
            study_id=ids.study_id,
            instance_id=ids.instance_id,
            film=film,
            report=report,
            regions=_checked_regions(item, film, names),
            labels=labels,
            label_source=label_source,
            source=kind,
            source_digest=source_digest,
            split=self.split_wish(item, site, ids.patient_id).split,
            acquisition=item.acquisition.or_else(decoded.acquisition) if decoded else UNKNOWN,
        )
        if self._rules.grounding == "off" or not is_english:
            return pair
        return ground_pair(pair, self._rules.label, with_atlas=self._rules.grounding == "auto")

    def split_wish(self, item: SourceItem, site: str, patient_id: str) -> SplitWish:
        """Return where an input would go, were it alone: the published split, or what the hash of its group says.

        Args:
            item: What the archive says.
            site: Where identifiers of the archive's tables are valid.
            patient_id: Pseudonym of its patient.
        """
        group_id = self._rules.pseudonyms.patient(f"group\0{item.group}", site) if item.group else patient_id
        published = item.split if self._rules.use_published_split else None
        return SplitWish(patient_id, group_id, published or split_of(group_id, self._rules.seed, self._rules.shares))

    def _read_notes(self, notes: str, names: tuple[str, ...]) -> str | None:
        text = sentences_of_picture(clean_text(notes), self._speaks_of_finding)
        return _clean(text, names)

    def _speaks_of_finding(self, sentence: str) -> bool:
        values = self._rules.label(sentence)
        return any(value is not None for label, value in values.items() if label != NO_FINDING)

    def _label(self, item: SourceItem, report: Report, is_english: bool) -> tuple[LabelValues, str]:
        """Return the archive's labels, else the text's; none from a language whose negations nobody here knows."""
        if item.labels:
            return item.labels, item.label_source
        if not report.text or not is_english:
            return {}, "none"
        labels = {label: value for label, value in self._rules.label(report.text).items() if value is not None}
        if item.notes:
            # a sentence or two of a case text cannot say that there is nothing else
            labels = {label: value for label, value in labels.items() if label != NO_FINDING or value == 0}
        return labels, "report"


def _settled_view(told: ViewPosition | None, read: ViewPosition) -> ViewPosition:
    """Return what the archive tells of a projection; what the film says where that is nothing, or just "frontal"."""
    if told is None or (told is ViewPosition.UNKNOWN and read.is_frontal):
        return read
    return told


def _clean(text: str | None, names: tuple[str, ...]) -> str | None:
    if not text:
        return None
    masked = mask_text(clean_text(text), names)
    check_masked(masked, names)
    return masked or None


def _checked_regions(item: SourceItem, film: Film | None, names: tuple[str, ...]) -> tuple[RegionAnnotation, ...]:
    """Return the regions with their boxes in pixels of this film and their phrases masked."""
    if not item.regions:
        return ()
    if film is None:
        raise AnnotationError("a box without a film", code="GEOMETRY.BOX")
    across, down = _scale_of_boxes(item.boxes_size, film)
    width, height = film.original_width, film.original_height
    checked = []
    num_beyond = 0
    for region in item.regions:
        x1, y1, x2, y2 = region.box_xyxy
        box: BoxXyxy = (x1 * across, y1 * down, x2 * across, y2 * down)
        if item.boxes_may_exceed:
            num_beyond += _is_outside(box, width, height)
            box = _cut_box(box, width, height)
            if _is_empty(box):
                continue
        checked.append(replace(region, box_xyxy=_clip_box(box, width, height), phrase=_clean(region.phrase, names)))
    if item.boxes_size is None and num_beyond > len(item.regions) / 2:
        raise AnnotationError("most boxes reach beyond the film: a smaller copy of unknown scale", code="GEOMETRY.BOX")
    return tuple(checked)


def _scale_of_boxes(boxes_size: tuple[int, int] | None, film: Film) -> tuple[float, float]:
    """Return pixels of this film, across and down, per pixel of the film that the boxes were measured on.

    Whoever makes a copy rounds each side on its own, so the two differ a little.
    """
    if boxes_size is None:
        return 1.0, 1.0
    width, height = boxes_size
    across, down = film.original_width / width, film.original_height / height
    if abs(film.original_height - height * across) > BOX_TOLERANCE_PIXELS + SHAPE_TOLERANCE * film.original_height:
        raise AnnotationError("the film has another shape than the one its boxes were drawn on", code="GEOMETRY.BOX")
    return across, down


def _cut_box(box: BoxXyxy, width: int, height: int) -> BoxXyxy:
    x1, y1, x2, y2 = box
    return max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)


def _is_empty(box: BoxXyxy) -> bool:
    x1, y1, x2, y2 = box
    return x2 <= x1 or y2 <= y1


def _is_outside(box: BoxXyxy, width: int, height: int) -> bool:
    x1, y1, x2, y2 = box
    margin = BOX_TOLERANCE_PIXELS
    return min(x1, y1) < -margin or x2 > width + margin or y2 > height + margin


def _clip_box(box: BoxXyxy, width: int, height: int) -> BoxXyxy:
    if _is_outside(box, width, height) or _is_empty(box):
        raise AnnotationError("a box is empty or lies outside its film", code="GEOMETRY.BOX")
    return _cut_box(box, width, height)
