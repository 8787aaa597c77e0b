"""What tests share lies in ``tests/support``: no module of tests is imported by another.

And what needs Prefect or MLflow is no unit test: it belongs here or to the end-to-end tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SUPPORT = ("tests", "support")
SERVERS = (
    "prefect",
    "mlflow",
    "flows",
    "tasks",
    "deployments.automations",
    "deployments.bootstrap",
    "crrg.tracking",
    "crrg.operations.registry.bundle_model",
)
"""Prefect and MLflow, and what is made of them."""


def imported(tree: ast.AST) -> Iterator[str]:
    """Return every name that is imported, with its module; a relative one begins with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{name.name}" for name in node.names)


def from_tests(source: str, test_modules: frozenset[str]) -> list[str]:
    """Return what a module imports from modules of tests: by their path, or by the bare name that pytest gives them."""
    found = [(name, tuple(name.split("."))) for name in imported(ast.parse(source))]
    return [
        name
        for name, parts in found
        if parts[0] in {"", *test_modules} or (parts[0] == "tests" and parts[:2] != SUPPORT)
    ]


def test_tests_and_benchmarks_import_no_module_of_tests_but_those_of_support(checkout: Path) -> None:
    paths = {
        path: path.relative_to(checkout) for room in ("tests", "benchmarks") for path in (checkout / room).rglob("*.py")
    }
    test_modules = frozenset(own.stem for own in paths.values() if own.parts[0] == "tests" and own.parts[:2] != SUPPORT)
    assert {"conftest", Path(__file__).stem} <= test_modules
    found = {str(own): from_tests(path.read_text(), test_modules) for path, own in paths.items()}
    assert not {name: names for name, names in found.items() if names}


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("from tests.unit.registry.test_bundle import edit", True),
        ("from tests.e2e.conftest import S3Store", True),
        ("from tests.unit.registry import test_bundle", True),
        ("from tests import conftest", True),
        ("import tests.conftest", True),
        ("import conftest", True),
        ("from test_bundle import edit", True),
        ("from .test_bundle import edit", True),
        ("from . import conftest", True),
        ("def f():\n    from tests.unit.registry.test_bundle import edit", True),
        ("from tests.support.keys import KEY", False),
        ("import tests.support.keys", False),
        ("from tests.support import keys", False),
        ("from crrg.data.images import model_input", False),
    ],
)
def test_an_import_of_a_test_would_be_noticed(line: str, is_found: bool) -> None:
    assert bool(from_tests(line, frozenset({"conftest", "test_bundle"}))) == is_found


def of_servers(source: str, supports: dict[str, str]) -> set[str]:
    """Return what a test imports of Prefect and MLflow, by itself or through modules of support."""
    waiting, seen, found = [source], set(), set()
    while waiting:
        for name in imported(ast.parse(waiting.pop())):
            found |= {name for server in SERVERS if f"{name}.".startswith(f"{server}.")}
            used = {module for module in supports if f"{name}.".startswith(f"{module}.")} - seen
            waiting += [supports[module] for module in used]
            seen |= used
    return found


def test_unit_tests_import_neither_prefect_nor_mlflow(checkout: Path) -> None:
    supports = {f"tests.support.{path.stem}": path.read_text() for path in (checkout / "tests/support").glob("*.py")}
    tests = {path: path.read_text() for path in (checkout / "tests/unit").rglob("*.py")}
    assert len(tests) > 200
    found = {str(path.relative_to(checkout)): of_servers(source, supports) for path, source in tests.items()}
    assert not {name: names for name, names in found.items() if names}


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("import prefect", True),
        ("from prefect.context import FlowRunContext", True),
        ("def f():\n    import mlflow.pyfunc", True),
        ("from flows import __main__ as entry", True),
        ("from crrg.tracking.runs import open_tracker", True),
        ("from crrg import tracking", True),
        ("from tests.support.shards import run", True),
        ("from tests.support import shards", True),
        ("from crrg.training.tracker import NullTracker", False),
        ("from tests.support.keys import KEY", False),
    ],
)
def test_an_import_of_a_server_would_be_noticed(line: str, is_found: bool) -> None:
    supports = {
        "tests.support.shards": "from tests.support.steps import step",
        "tests.support.steps": "from tasks.policy import TASK",
        "tests.support.keys": "KEY = 1",
    }
    assert bool(of_servers(line, supports)) == is_found
