"""What tells drafts of one series apart, and the films that a statement rests on."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from crrg.domain.labels import LABELS
from crrg.exports.originals import read_original
from tests.support.delivered_night import film_bytes
from tests.support.drawn_delivery import COMMITTED, drawn_delivery, drawn_document, stored_objects

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")


def originals_of(*names, **tags):
    return {name: read_original(film_bytes(1, "5", f"5{name}", **tags), name) for name in names}


def groups_of(report):
    """Return the group of each label."""
    found = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    return found.ContentSequence[: len(LABELS)]


def cited_in(group):
    images = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    return [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]


def test_a_later_draft_has_higher_numbers_in_an_undated_series():
    originals = originals_of("1", "2")
    older = stored_objects(drawn_delivery(originals))
    newer = stored_objects(drawn_delivery(originals, committed=COMMITTED + timedelta(minutes=1)))
    assert [each.SeriesInstanceUID for each in older] == [each.SeriesInstanceUID for each in newer]
    assert not any("SeriesDate" in each or "SeriesTime" in each for each in (*older, *newer))
    numbers = [int(each.InstanceNumber) for each in older], [int(each.InstanceNumber) for each in newer]
    assert numbers[0] == [217_369_800, 217_369_800, 217_369_801]
    assert numbers[1] == [number + 60 for number in numbers[0]]


def test_numbers_are_of_the_source_not_of_pseudonyms():
    films = {f"2.25.9.5{name}": film for name, film in originals_of("1", "2", "3").items()}

    def numbers(*names):
        originals = dict(zip(names, films.values(), strict=True))
        first, *others = names
        made = drawn_delivery(originals, document=drawn_document(first, *sorted(others)))
        report, *captures = stored_objects(made)
        said = [(each.SOPInstanceUID, each.InstanceNumber) for each in (report, *captures)]
        return said, [cited_in(group) for group in groups_of(report)]

    assert numbers("a", "b", "c") == numbers("a", "c", "b")


def test_the_source_of_a_probability_is_every_film_since_any_may_have_decided_it():
    report, *_ = stored_objects(drawn_delivery(originals_of("1", "2")))
    assert [cited_in(group) for group in groups_of(report)] == [["2.25.9.51", "2.25.9.52"]] * len(LABELS)


@pytest.mark.parametrize(
    ("said", "zone", "moment", "tag"),
    [
        ("+0900", None, ("20261121", "053000"), "+0900"),
        ("-0330", ZoneInfo("Europe/Berlin"), ("20261120", "170000"), "-0330"),
        ("+9900", None, ("20261120", "203000"), None),
        ("+1500", None, ("20261120", "203000"), None),
        ("-0000", None, ("20261120", "203000"), None),
        ("", ZoneInfo("Europe/Berlin"), ("20261120", "213000"), None),
    ],
)
def test_documents_tell_the_time_of_their_source(said, zone, moment, tag):
    originals = originals_of("1", TimezoneOffsetFromUTC=said)
    for each in stored_objects(drawn_delivery(originals, **({"zone": zone} if zone else {}))):
        assert (each.ContentDate, each.ContentTime) == moment
        assert (each.InstanceCreationDate, each.InstanceCreationTime) == moment
        assert each.get("TimezoneOffsetFromUTC") == tag
        if each.Modality == "OT":
            assert (each.DateOfSecondaryCapture, each.TimeOfSecondaryCapture) == moment


def test_uids_are_those_of_every_earlier_delivery():
    made = drawn_delivery(originals_of("1", "2"))
    assert made.series_uid("sr") == "2.25.103880606006586945860559964584484689370"
    assert made.uid("sr") == "2.25.130506992896131072951104503985291058061"
    assert made.uid("sc", instance_id="2") == "2.25.208886493512452328133060429125959698655"
    assert made.resource_id("report") == "0b4c3cde-0e09-5bdc-9452-f9f1cf36c050"
