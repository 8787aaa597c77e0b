"""Regions of a film that came without a scene graph: boxes from what is known of it, phrases from its report.

Partial annotation is the normal case. A region without a box does not stand in the row at all and teaches nothing. A
region with a box and no sentence is "not selected" where the report speaks of other regions; where the report is tied
to no region, whether it deserved a sentence stays unknown. Only the findings section gives phrases: what the generator
learns to write is never a conclusion or a case history. Knows no detector; its boxes are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crrg.data.atlas import ATLAS_VERSION, HEART, LUNGS, atlas_boxes
from crrg.data.reports.grounding import Labeler, ground_report
from crrg.data.reports.grounding_lexicon import LEXICON_VERSION
from crrg.domain.boxes import BoxXyxy
from crrg.domain.regions import REGION_INDEX
from crrg.domain.report import Report
from crrg.domain.study import Pair, RegionAnnotation, RegionSource

GROUNDING_VERSION = f"lexicon-{LEXICON_VERSION}+atlas-{ATLAS_VERSION}"
"""A part of the fingerprint of datasets whose regions were made here."""


def ground_pair(pair: Pair, label: Labeler, *, with_atlas: bool = True) -> Pair:
    """Complete the regions of a frontal film from its lungs and its report.

    Args:
        pair: A row; text-only rows, lateral films and films with a scene graph come back as they are.
        label: Labels a text; decides whether a phrase is abnormal.
        with_atlas: Whether the lungs' boxes give boxes to the regions that have none.

    Returns:
        The row with boxes marked ``atlas`` where both lungs are boxed, and phrases on boxed regions; what the archive
        brought is kept.
    """
    if not _is_open(pair):
        return pair
    regions = pair.regions
    if with_atlas and pair.film is not None:
        known = {region.region: region.box_xyxy for region in regions if region.region in (*LUNGS, HEART)}
        made = atlas_boxes(known, (pair.film.original_width, pair.film.original_height))
        regions = _with_boxes(regions, made, RegionSource.ATLAS)
    return replace(pair, regions=_with_phrases(regions, pair.report, label))


def ground_by_detector(pair: Pair, found: Mapping[str, BoxXyxy], label: Labeler) -> Pair:
    """Complete the regions of a frontal film from the boxes that a detector found on it, and from its report.

    Args:
        pair: A row; text-only rows, lateral films and films with a scene graph come back as they are.
        found: Region to ``box_xyxy`` in original pixels; only regions that were detected.
        label: Labels a text; decides whether a phrase is abnormal.

    Returns:
        The row with boxes marked ``detector`` where a person drew none; boxes of the atlas give way to them.
    """
    if not _is_open(pair):
        return pair
    regions = tuple(
        replace(region, box_xyxy=found[region.region], source=RegionSource.DETECTOR)
        if region.source is RegionSource.ATLAS and region.region in found
        else region
        for region in pair.regions
    )
    return replace(pair, regions=_with_phrases(_with_boxes(regions, found, RegionSource.DETECTOR), pair.report, label))


def needs_boxes(pair: Pair) -> bool:
    """Return whether a detector could add a box to a row."""
    drawn = [region for region in pair.regions if region.source is not RegionSource.ATLAS]
    return _is_open(pair) and len(drawn) < len(REGION_INDEX)


def _is_open(pair: Pair) -> bool:
    """Return whether a row is a frontal film whose regions nobody laid down in a scene graph."""
    if pair.film is None or not pair.film.view_position.is_frontal:
        return False
    return not any(region.source is RegionSource.SCENE_GRAPH for region in pair.regions)


def _with_boxes(
    regions: tuple[RegionAnnotation, ...], boxes: Mapping[str, BoxXyxy], source: RegionSource
) -> tuple[RegionAnnotation, ...]:
    known = {region.region for region in regions}
    made = [RegionAnnotation(name, box, None, None, source) for name, box in boxes.items() if name not in known]
    return tuple(sorted((*regions, *made), key=lambda region: REGION_INDEX[region.region]))


def _with_phrases(
    regions: tuple[RegionAnnotation, ...], report: Report, label: Labeler
) -> tuple[RegionAnnotation, ...]:
    if not report.findings or not regions:
        return regions
    grounded = ground_report(Report(findings=report.findings), label)
    filled = []
    for region in regions:
        said = grounded.get(region.region)
        if region.phrase is None and said is not None:
            is_abnormal = said.is_abnormal if region.is_abnormal is None else region.is_abnormal
            region = replace(region, phrase=said.phrase, is_abnormal=is_abnormal)
        filled.append(region)
    return tuple(filled)
