"""Names of task runs: each says what it is about; Prefect's own would end with three random digits."""

from __future__ import annotations

import importlib
import pkgutil

from prefect import Task

import tasks


def test_every_task_names_its_runs() -> None:
    modules = [importlib.import_module(f"tasks.{found.name}") for found in pkgutil.iter_modules(tasks.__path__)]
    named = {
        value.name: value.task_run_name
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Task)
    }
    assert len(named) > 20
    assert {name for name, run_name in named.items() if not run_name} == set()
    verbs = {name: run_name.split("[")[0] for name, run_name in named.items()}
    assert verbs == {name: name.replace("_", "-") for name in named}
