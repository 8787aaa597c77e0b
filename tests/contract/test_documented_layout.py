"""What documents list of settings, places, rooms and codes is what there is, all of it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from crrg.config.base import Settings
from crrg.data.privacy.forgotten import REASON as FORGOTTEN
from crrg.data.refusals import UNREADABLE
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.exports import dicom_sr
from crrg.exports.codes import (
    LABEL_CODES,
    LABEL_CONCEPTS,
    OWN_SCHEME,
    REGION_CODES,
    SYSTEM_URLS,
    Code,
    region_site,
)
from tests.support.zones import KEYS, TRACKING

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text()
GUIDES = [*DOCS.glob("*.md"), *(DOCS / "operations").glob("*.md")]
"""What people read to use the program; `docs/results` tells only what was measured."""
NO_VARIABLES = {"CRRG_FLAG_ROOT", "CRRG_LIST", "CRRG_NIGHT", "CRRG_SUPERSEDED"}
"""Of a process to its children, and names in the review page."""
TOPS = "audit|checkpoints|control|datasets|leases|ledger|models|quarantine|results|spool|staging"


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Return what stands between back-ticks in the first column of the tables of a text."""
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_setting_has_its_row_and_every_row_its_setting() -> None:
    fields = Settings.model_fields
    variables = {str(field.validation_alias or f"CRRG_{name.upper()}") for name, field in fields.items()}
    listed = first_cells(section(OPERATIONS, "Settings"))
    assert sorted(listed) == sorted(variables)


def test_every_variable_that_the_code_reads_is_in_a_document() -> None:
    sources = [path for room in ("crrg", "tasks", "flows", "deployments") for path in (ROOT / room).rglob("*")]
    files = [path for path in (*sources, ROOT / "prefect.yaml") if path.suffix in (".py", ".yaml", ".json")]
    read = {name for path in files for name in re.findall(r"\bCRRG_[A-Z0-9_]+\b", path.read_text())}
    told = " ".join(path.read_text() for path in (*ROOT.glob("*.md"), *GUIDES))
    assert sorted(name for name in read - NO_VARIABLES if not re.search(rf"\b{name}\b", told)) == []


def literals(path: Path) -> Iterator[str]:
    """Yield the texts of a module, with one sign for each part that is filled in; docstrings are left out."""
    tree = ast.parse(path.read_text())
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def fits(place: str, key: str) -> bool:
    """Return whether a key of the code lies at a place of the document, or above it; parts filled in fit anything."""

    def form(part: str) -> str:
        return re.sub(r"<[^>]*>|…|\*", "*", part)

    def alike(one: str, other: str) -> bool:
        pattern = ".*".join(re.escape(piece) for piece in form(one).split("*"))
        return re.fullmatch(pattern, form(other)) is not None

    theirs, ours = place.rstrip("/").split("/"), key.rstrip("/").split("/")
    return all(alike(one, other) or alike(other, one) for one, other in zip(theirs, ours, strict=False))


def test_every_place_under_the_root_has_its_row() -> None:
    places = first_cells(section(OPERATIONS, "Where things lie"))
    found = {text for path in (ROOT / "crrg").rglob("*.py") for text in literals(path)}
    keys = {text for text in found if re.fullmatch(rf"(?:{TOPS})(?:/[^\s]*)?", text)}
    assert len(keys) > 40
    assert sorted(key for key in keys if not any(fits(place, key) for place in places)) == []
    tops = {re.split(r"[/\\]", pattern.pattern)[0] for pattern in KEYS}
    assert (
        sorted(top for top in {*tops, *TRACKING} if not any(place.startswith(top.rstrip("/")) for place in places))
        == []
    )
    assert fits("models/bundles/<bundle id>/", "models/bundles/*/bundle.json")
    assert not fits("spool/runs/", "spool/untold")


def test_every_flag_of_a_draft_has_its_row() -> None:
    told = first_cells(section((ROOT / "docs" / "operations" / "nights.md").read_text(), "Flags of a draft"))
    modules = [path for room in ("data", "inference", "exports") for path in (ROOT / "crrg" / room).rglob("*.py")]
    texts = {text for path in modules for text in literals(path)}
    of_labels = r"(?:text|label|regions)_(?:without|on_other)_\w+:\*"
    of_films = r"\w+_unknown|paediatric|polarity_(?:by|d)\w+|\w+_(?:dropped|ignored|exceeded)|mixed_bundles"
    raised = {text.replace("*", "<name>") for text in texts if re.fullmatch(f"{of_labels}|{of_films}", text)}
    assert sorted(raised) == sorted(told)


def test_the_import_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rooms,) = (contract["layers"] for contract in contracts if contract["name"] == "rooms of crrg")
    block = section((ROOT / "CONTRIBUTING.md").read_text(), "Which way imports run").split("```")[1]
    lines = block.partition("crrg:")[2].strip().splitlines()
    assert [re.split(r"\s{3,}", line.strip())[0] for line in lines] == rooms
    there = {path.stem for path in (ROOT / "crrg").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {room for line in rooms for room in re.findall(r"\w+", line)} == there - {"__init__"}


def test_the_map_of_the_readme_shows_every_room_and_document() -> None:
    map_of = section((ROOT / "README.md").read_text(), "The map").split("```")[1]
    crrg, _, rest = map_of.partition("\ntasks/")
    rooms = {path.name for path in (ROOT / "crrg").iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"\b(\w+)/", crrg)) - {"crrg"} == rooms
    files = {path.name for path in (ROOT / "crrg").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"\w+\.py", crrg)) == files
    tests = {
        path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py")) or any(path.glob("*/test_*.py"))
    }
    assert set(re.findall(r"\w+", rest.partition("\ntests/")[2].splitlines()[0])) == tests
    told = (ROOT / "README.md").read_text()
    assert [path.name for path in GUIDES if f"({path.relative_to(ROOT)})" not in told] == []
    deeper = [(path, path.parent.with_suffix(".md").read_text()) for path in DOCS.rglob("*.md") if path.parent != DOCS]
    assert len(deeper) > 5
    assert [path.name for path, head in deeper if f"]({path.relative_to(DOCS)}" not in head] == []


def test_the_codes_of_a_delivery_are_all_told() -> None:
    text = section((ROOT / "docs" / "delivery.md").read_text(), "Codes")
    assert [name for name in (*SYSTEM_URLS, *SYSTEM_URLS.values()) if f"`{name}`" not in text] == []
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `([A-Z]+\d\d)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)}
    expected = {LABEL_CODES[label].value: (label, told(LABEL_CONCEPTS.get(label))) for label in LABELS}
    expected |= {REGION_CODES[region].value: (region, told(*region_site(region))) for region in REGIONS}
    measures = [each for each in vars(dicom_sr).values() if isinstance(each, Code) and each.scheme == OWN_SCHEME]
    expected |= {each.value: (each.meaning, "none") for each in measures}
    assert rows == expected


def told(*codes: Code | None) -> str:
    return "; ".join(f"`{each.value}` {each.meaning}" for each in codes if each) or "none"


def test_the_reasons_of_a_delivery_are_all_told() -> None:
    rooms = (ROOT / "crrg" / "exports", ROOT / "crrg" / "operations")
    names = (
        "deliver",
        "current_drafts",
        "dicom_send",
        "source_films",
        "originals",
        "fhir",
        "dicom_sr",
        "secondary_capture",
        "delivered",
    )
    sources = [path for room in rooms for path in room.rglob("*.py") if path.stem in names]
    found = {text for path in sources for text in literals(path) if re.fullmatch(r"[A-Z_]{4,}\.[A-Z_]{3,}", text)}
    text = section((ROOT / "docs" / "delivery.md").read_text(), "Studies that are not delivered")
    assert {*found, FORGOTTEN, UNREADABLE} == set(first_cells(text))
