"""A draft as FHIR R4: a preliminary DiagnosticReport, an Observation per label, and the Device that wrote them.

They come as a transaction of PUTs under ids that are the same whenever the same draft is delivered, so that sending it
again changes nothing. Within it they refer to each other by ``urn:uuid``, which a server turns into its own addresses.
``check_bundle`` holds the rules of R4 that matter here: required elements, closed value sets, dates, and references
that lead somewhere. Plain dictionaries; whoever sends them is not known here.

Source: HL7 FHIR R4 (4.0.1), DiagnosticReport, Observation, Device, Bundle; http://hl7.org/fhir/R4.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date as Date
from datetime import datetime
from typing import Any

from crrg.data.dicom.header import identifier_of, text_value
from crrg.domain.acquisition import OWN_MANUFACTURER
from crrg.domain.labels import LABELS, NO_FINDING
from crrg.errors import DataError
from crrg.exports.codes import LABEL_CODES, LABEL_CONCEPTS, REGION_CODES, SYSTEM_URLS, Code
from crrg.exports.delivered import BANNER, DEVICE_NAME, Delivery
from crrg.exports.documents import DISCLAIMER, report_text

CATEGORY_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0074"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
DICOM_UID_SYSTEM = "urn:dicom:uid"
REPLACES = "http://hl7.org/fhir/StructureDefinition/diagnosticReport-replaces"
CHEST_REPORT = Code("18748-4", "LN", "Diagnostic imaging study")
_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FULL_URL = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STATUSES = {"DiagnosticReport": {"preliminary"}, "Observation": {"preliminary"}, "Device": {"active"}}
_REQUIRED = {
    "DiagnosticReport": (
        "status",
        "category",
        "code",
        "subject",
        "issued",
        "result",
        "conclusion",
    ),
    "Observation": ("status", "category", "code", "subject", "device", "valueQuantity"),
    "Device": ("identifier", "status", "manufacturer", "deviceName", "version"),
}
_SYSTEMS = {*SYSTEM_URLS.values(), CATEGORY_SYSTEM, OBSERVATION_CATEGORY, INTERPRETATION, IDENTIFIER_TYPES}
_INTERPRETATIONS = {"POS", "NEG"}


def fhir_bundle(delivery: Delivery) -> dict[str, Any]:
    """Return a study's draft as a FHIR transaction.

    Args:
        delivery: The draft and its sources.

    Returns:
        A ``Bundle`` of type ``transaction``: Device, 14 Observations, DiagnosticReport.

    Raises:
        DataError: DOCUMENT.INVALID where a rule of ``check_bundle`` is broken.
    """
    device = _device(delivery)
    observations = [_observation(delivery, label, _full_url(device)) for label in LABELS]
    resources = [device, *observations, _report(delivery, [_full_url(each) for each in observations])]
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": _full_url(resource),
                "resource": resource,
                "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
            }
            for resource in resources
        ],
    }
    check_bundle(bundle)
    return bundle


def check_bundle(bundle: Mapping[str, Any]) -> None:
    """Check a transaction against the rules of R4 that receivers rely on.

    Raises:
        DataError: DOCUMENT.INVALID, naming the first rule that is broken, never a value.
    """
    for problem in _problems(bundle):
        raise DataError(
            f"the FHIR document is not valid: {problem}; this study was not delivered", code="DOCUMENT.INVALID"
        )


def _problems(bundle: Mapping[str, Any]) -> Iterator[str]:
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction":
        yield "not a transaction Bundle"
    resources = [entry["resource"] for entry in bundle.get("entry", ())]
    known = Counter(str(entry.get("fullUrl")) for entry in bundle.get("entry", ()))
    if not all(_FULL_URL.fullmatch(url) for url in known):
        yield "a fullUrl is not a urn:uuid"
    if known.total() != len(known):
        yield "two resources have the same fullUrl"
    for entry, resource in zip(bundle.get("entry", ()), resources, strict=True):
        kind = str(resource.get("resourceType"))
        if kind not in _STATUSES:
            yield f"a resource of type {kind} is not one of ours"
            continue
        if not _ID.fullmatch(str(resource.get("id", ""))):
            yield f"{kind}.id is not 1 to 64 letters, digits, dots and hyphens"
        if resource.get("status") not in _STATUSES[kind]:
            yield f"{kind}.status must be {' or '.join(sorted(_STATUSES[kind]))}"
        for name in _REQUIRED[kind]:
            if not resource.get(name) and resource.get(name) != 0:
                yield f"{kind}.{name} is missing"
        if entry.get("request") != {"method": "PUT", "url": f"{kind}/{resource.get('id')}"}:
            yield f"the request of a {kind} is not a PUT under its own id"
        yield from _coding_problems(resource, kind)
        yield from _time_problems(resource, kind)
        for reference in _references(resource):
            if reference not in known:
                yield f"{kind} refers to a resource that is not in the Bundle"


def _coding_problems(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for coding in value.get("coding", ()):
            if coding.get("system") not in _SYSTEMS:
                yield f"{where}: a code's system is not one of those used here"
            if coding.get("system") == INTERPRETATION and coding.get("code") not in _INTERPRETATIONS:
                yield f"{where}: an interpretation is neither POS nor NEG"
            if not coding.get("code") or not coding.get("display"):
                yield f"{where}: a code without value or display"
        for name, child in value.items():
            yield from _coding_problems(child, f"{where}.{name}")
    elif isinstance(value, list):
        for child in value:
            yield from _coding_problems(child, where)


def _time_problems(resource: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Yield what is wrong with a resource's day and moment; either may be absent, but not said wrongly."""
    day, moment = resource.get("effectiveDateTime"), resource.get("issued")
    if day is not None and not (_DAY.fullmatch(day) and _reads_as(day, Date)):
        yield f"{kind}.effectiveDateTime is not a valid date"
    if moment is not None and not (_reads_as(moment, datetime) and datetime.fromisoformat(moment).tzinfo):
        yield f"{kind}.issued is not a time with a time zone"


def _reads_as(text: str, kind: type[Date]) -> bool:
    try:
        kind.fromisoformat(text)
    except ValueError:
        return False
    return True


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def _device(delivery: Delivery) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": delivery.resource_id("device"),
        "identifier": [{"system": "urn:crrg-clip:bundle", "value": bundle_id} for bundle_id, _ in delivery.models()],
        "status": "active",
        "manufacturer": OWN_MANUFACTURER,
        "deviceName": [{"name": DEVICE_NAME, "type": "model-name"}],
        "version": [{"value": version} for version in delivery.versions()],
        "note": [{"text": DISCLAIMER}],
    }


def _observation(delivery: Delivery, label: str, device: str) -> dict[str, Any]:
    document = delivery.document
    is_positive = bool(document["labels"][label])
    mark = ("POS", "Positive") if is_positive else ("NEG", "Negative")
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": delivery.resource_id("observation", label),
        "identifier": [_uid_identifier(delivery.uid("label", label))],
        "status": "preliminary",
        "category": [_concept_of(OBSERVATION_CATEGORY, "imaging", "Imaging")],
        "code": {"coding": [_coding(code) for code in _label_codes(label)], "text": f"Probability of: {label}"},
        "subject": _subject(delivery),
        **_effective(delivery),
        "device": {"reference": device},
        "valueQuantity": {
            "value": document["probabilities"][label],
            "unit": "probability",
            "system": "http://unitsofmeasure.org",
            "code": "1",
        },
        "interpretation": [_concept_of(INTERPRETATION, *mark)],
        "note": [{"text": BANNER}],
    }
    threshold = document["thresholds"].get(label)
    if threshold is not None:
        # the probability is the highest of the films: one film that shows nothing does not speak for the others
        films = " on every film" if label == NO_FINDING else ""
        observation["referenceRange"] = [{"text": f"positive at or above {threshold:.4f}{films}"}]
    return observation


def _report(delivery: Delivery, observations: list[str]) -> dict[str, Any]:
    document = delivery.document
    older = [delivery.replaced["fhir"]] if "fhir" in delivery.replaced else []
    told = [region for film in delivery.films for region in film["regions"] if region["phrase"]]
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "id": delivery.resource_id("report"),
        "identifier": [_uid_identifier(delivery.uid("report"))],
        "status": "preliminary",
        "category": [_concept_of(CATEGORY_SYSTEM, "RAD", "Radiology")],
        "code": {"coding": [_coding(CHEST_REPORT)], "text": "Chest radiograph, machine-made draft"},
        "subject": _subject(delivery),
        **_effective(delivery),
        "issued": delivery.committed.isoformat(timespec="seconds"),
        "imagingStudy": [{"identifier": _uid_identifier(delivery.primary.study_uid), "type": "ImagingStudy"}],
        "result": [{"reference": each} for each in observations],
        "conclusion": f"{BANNER}. {document['impression'] or document['findings']}",
        "conclusionCode": [
            {"coding": [_coding(code) for code in _label_codes(label)], "text": f"{label} (draft)"}
            for label in LABELS
            if document["labels"][label]
        ],
        "presentedForm": [
            {
                "contentType": "text/plain; charset=utf-8",
                "language": "en",
                "data": base64.b64encode(report_text(delivery.named_document).encode()).decode(),
                "title": BANNER,
            }
        ],
        "extension": [*map(_replaces, older), *(_region_extension(each) for each in told)],
    }
    accession = text_value(delivery.primary.header, "AccessionNumber")
    if accession:
        kind = _concept_of(IDENTIFIER_TYPES, "ACSN", "Accession ID")
        report["basedOn"] = [{"identifier": {"type": kind, "value": accession}, "type": "ServiceRequest"}]
    return {name: value for name, value in report.items() if value != []}


def _replaces(older: Delivery) -> dict[str, Any]:
    """Name an older report by its identifier: whether the receiver holds it under our id is not known here.

    Source: http://hl7.org/fhir/R4/extension-diagnosticreport-replaces.html.
    """
    return {
        "url": REPLACES,
        "valueReference": {"type": "DiagnosticReport", "identifier": _uid_identifier(older.uid("report"))},
    }


def _region_extension(region: Mapping[str, Any]) -> dict[str, Any]:
    code = REGION_CODES[region["region"]]
    return {
        "url": "urn:crrg-clip:region-evidence",
        "extension": [
            {"url": "region", "valueCoding": _coding(code)},
            {"url": "sentence", "valueString": region["phrase"]},
            {"url": "abnormalProbability", "valueDecimal": region["abnormal_probability"]},
        ],
    }


def _subject(delivery: Delivery) -> dict[str, Any]:
    """Return the patient by the source's identifier; a reference would need the receiver's own record."""
    header = delivery.primary.header
    identifier: dict[str, Any] = {
        "type": _concept_of(IDENTIFIER_TYPES, "MR", "Medical record number"),
        "value": identifier_of(header, "PatientID"),
    }
    issuer = text_value(header, "IssuerOfPatientID")
    if issuer:
        identifier["assigner"] = {"display": issuer}
    return {"type": "Patient", "identifier": identifier}


def _effective(delivery: Delivery) -> dict[str, str]:
    """Return when the film was taken, as a day; nothing where the source does not say it.

    FHIR asks for a zone with any time, which films seldom tell.
    """
    day = str(delivery.primary.header.get("StudyDate") or "")
    written = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return {"effectiveDateTime": written} if _DAY.fullmatch(written) and _reads_as(written, Date) else {}


def _full_url(resource: Mapping[str, Any]) -> str:
    """Return the address of a resource within the transaction: its id, which is a UUID."""
    return uuid.UUID(resource["id"]).urn


def _label_codes(label: str) -> list[Code]:
    return [*([LABEL_CONCEPTS[label]] if label in LABEL_CONCEPTS else []), LABEL_CODES[label]]


def _coding(code: Code) -> dict[str, str]:
    return {"system": SYSTEM_URLS[code.scheme], "code": code.value, "display": code.meaning}


def _concept_of(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _uid_identifier(uid: str) -> dict[str, str]:
    return {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}
