from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_TASK_LINES = 15
MAX_FLOW_LINES = 30
VAGUE_NAMES = {"utils.py", "common.py", "helpers.py", "misc.py"}
ROOMS = ("crrg", "tasks", "flows", "deployments")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(checkout: Path, *rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((checkout / room).rglob("*.py"))]


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def num_lines(function: Function) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def body_lines(function: Function) -> int:
    """Lines of code after the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def decorated_with(function: Function, name: str) -> bool:
    plain = (item.func if isinstance(item, ast.Call) else item for item in function.decorator_list)
    return any(isinstance(item, ast.Name) and item.id == name for item in plain)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_no_file_is_too_long(checkout: Path) -> None:
    counts = {path: path.read_text().count("\n") for path in sources(checkout, *ROOMS, "tests", "benchmarks")}
    assert not {str(path.relative_to(checkout)): num for path, num in counts.items() if num > MAX_FILE_LINES}


def test_no_function_is_too_long(checkout: Path) -> None:
    long = [
        f"{path.relative_to(checkout)}:{function.name}: {num_lines(function)} lines"
        for path in sources(checkout, *ROOMS)
        for function in functions(ast.parse(path.read_text()))
        if num_lines(function) > MAX_FUNCTION_LINES
    ]
    assert not long


def test_no_file_has_a_vague_name(checkout: Path) -> None:
    assert not [str(path) for path in sources(checkout, *ROOMS, "tests") if path.name in VAGUE_NAMES]


@pytest.mark.parametrize(
    ("room", "decorator", "ceiling"), [("tasks", "task", MAX_TASK_LINES), ("flows", "flow", MAX_FLOW_LINES)]
)
def test_tasks_and_flows_are_thin(checkout: Path, room: str, decorator: str, ceiling: int) -> None:
    found = [
        (path.name, function.name, body_lines(function))
        for path in sources(checkout, room)
        for function in functions(ast.parse(path.read_text()))
        if decorated_with(function, decorator)
    ]
    assert len(found) > 5
    assert not [item for item in found if item[2] > ceiling]


def test_a_flow_is_named_after_its_file_and_takes_one_config(checkout: Path) -> None:
    for path in sources(checkout, "flows"):
        for function in functions(ast.parse(path.read_text())):
            if decorated_with(function, "flow"):
                assert function.name == path.stem
                assert [argument.arg for argument in function.args.args] == ["config"]


def test_neither_flows_nor_tasks_pass_a_name(checkout: Path) -> None:
    for path in sources(checkout, "flows", "tasks"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and dotted(node.func) in {"flow", "task"}:
                assert "name" not in {keyword.arg for keyword in node.keywords}


def test_the_ceilings_would_notice() -> None:
    tree = ast.parse('@task(retries=1)\ndef f(x):\n    """Doc."""\n    a = 1\n    return a\n')
    (function,) = functions(tree)
    assert decorated_with(function, "task")
    assert body_lines(function) == 2
    assert num_lines(function) == 4
