"""Nothing in the whole tree reads or writes pickles, runs text as code, or leaves a certificate unchecked.

Names are followed through imports and aliases. One file may read torch archives: ``crrg/importers/torch_file.py``,
``weights_only`` and memory-mapped, in a limited child process that ``crrg import`` alone starts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("crrg", "tasks", "flows", "deployments", "benchmarks")
THE_ONE_READER = "crrg/importers/torch_file.py"
MODULES = {
    "pickle", "_pickle", "cPickle", "pickle5", "pickletools", "cloudpickle", "dill", "joblib", "shelve", "marshal",
    "jsonpickle", "hickle",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "torch.load", "torch.save",
    "torch.serialization.load", "torch.serialization.save", "torch.jit.load", "torch.package.PackageImporter",
    "torch.hub.load", "importlib.__import__", "builtins.compile", "builtins.__import__", "yaml.Loader",
    "yaml.UnsafeLoader", "yaml.FullLoader", "pandas.io.pickle.read_pickle", "runpy.run_path", "code.interact",
    "pandas.read_pickle", "yaml.load",
    "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "numpy.lib.format.read_array", "sklearn.externals.joblib",
    "logging.config.listen", "ssl._create_unverified_context", "tarfile.open", "zipfile.ZipFile",
    "shutil.unpack_archive",
}  # fmt: skip
ALLOWED = {
    THE_ONE_READER: {"torch.load"},
    "crrg/data/archives/members.py": {
        "zipfile.ZipFile"
    },  # archives are published in ZIPs; members are read with limits
    "crrg/importers/radgraph_archive.py": {"tarfile.open"},  # so RadGraph is published; members are read with limits
    "benchmarks/generation/published.py": {"torch.save"},  # writes what the published code writes, for the importer
    "benchmarks/generation/exactness.py": {"torch.save"},
    "benchmarks/classification/published_files.py": {"torch.save"},
    "benchmarks/classification/published_graph.py": {"torch.save", "tarfile.open"},
}
STARRED = {"torch", "yaml", "pandas", "builtins", "numpy", "zipfile", "tarfile"}
"""Whose names would come in unseen by `from … import *`."""
ENDINGS = (".load_model", ".read_pickle", ".to_pickle", ".unsafe_load")
TRUE_ALLOWS = {"allow_pickle", "trust_remote_code", "allow_dangerous_deserialization"}
FALSE_ALLOWS = {"weights_only", "verify", "verify_ssl", "use_ssl", "check_hostname", "ssl_verify"}


def name_of(node: ast.AST, known: dict[str, str]) -> str:
    """Return the full dotted name of an expression, through the imports of its module."""
    if isinstance(node, ast.Attribute):
        before = name_of(node.value, known)
        return f"{before}.{node.attr}" if before else ""
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Return local name to what it stands for."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                known[item.asname or item.name.split(".")[0]] = item.name if item.asname else item.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
            if any(item.name == "*" for item in node.names) and node.module.split(".")[0] in STARRED:
                known |= {call.rsplit(".", 1)[1]: call for call in CALLS if call.rpartition(".")[0] == node.module}
    return known


def is_constant(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def offences(text: str) -> Iterator[str]:
    """Yield what in a module may not be there."""
    tree = ast.parse(text)
    known = imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names if item.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            name = name_of(node, known)
            if name in CALLS or (name.endswith(ENDINGS) and name.startswith(("mlflow", "pandas", "yaml", "keras"))):
                yield name
            if name.split(".")[0] in MODULES:
                yield name
        elif isinstance(node, ast.keyword):
            if node.arg in TRUE_ALLOWS and not is_constant(node.value, False):
                yield f"{node.arg}="
            if node.arg in FALSE_ALLOWS and is_constant(node.value, False):
                yield f"{node.arg}=False"
        elif isinstance(node, ast.Call):
            yield from offences_of_call(node, known)
        if isinstance(node, ast.Attribute) and node.attr == "CERT_NONE":
            yield "ssl.CERT_NONE"


def offences_of_call(node: ast.Call, known: dict[str, str]) -> Iterator[str]:
    """Yield what a call may not do that its name alone does not say."""
    called, words = name_of(node.func, known), [item.value for item in node.args if isinstance(item, ast.Constant)]
    if called == "importlib.import_module":
        yield from (f"import_module({word})" for word in words if str(word).split(".")[0] in MODULES)
    elif called in ("getattr", "builtins.getattr") and len(node.args) > 1:
        whole = f"{name_of(node.args[0], known)}.{words[0] if words else ''}"
        if whole in CALLS or whole.endswith(ENDINGS) or whole.split(".")[0] in MODULES:
            yield f"getattr({whole})"
    elif called == "numpy.load" and len(node.args) > 2:
        yield "numpy.load with a third argument, which is allow_pickle"


def test_no_module_of_the_tree_does(checkout: Path) -> None:
    found, num_read = [], 0
    for path in (path for room in ROOMS for path in sorted((checkout / room).rglob("*.py"))):
        place = str(path.relative_to(checkout))
        num_read += 1
        allowed = ALLOWED.get(place, set())
        found += [f"{place}: {what}" for what in offences(path.read_text()) if what not in allowed]
    assert num_read > 250
    assert found == []


def test_the_one_reader_takes_tensors_only_and_the_import_alone_starts_it(checkout: Path) -> None:
    text = (checkout / THE_ONE_READER).read_text()
    loads = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and name_of(node.func, {}) == "torch.load"
    ]
    assert loads
    for call in loads:
        flags = {item.arg: item.value for item in call.keywords}
        assert is_constant(flags["weights_only"], True)
        assert "mmap" in flags
    users = {
        str(path.relative_to(checkout))
        for room in ROOMS
        for path in (checkout / room).rglob("*.py")
        if "importers.torch_file" in path.read_text()
    }
    assert users
    assert all(place.startswith(("crrg/importers/", "crrg/operations/importing", "benchmarks/")) for place in users)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import pickle as p\np.loads(b'')",
        "from pickle import loads",
        "from torch import load as read\nread('x')",
        "import torch as t\nt.save({}, 'x')",
        "import torch\nreader = torch.load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=wanted)",
        "import pandas as pd\npd.read_pickle('x')",
        "import mlflow\nmlflow.pyfunc.load_model('x')",
        "from mlflow import sklearn\nsklearn.load_model('x')",
        "from yaml import load\nload('x')",
        "import numpy as np\nnp.load('x', None, True)",
        "import torch\ngetattr(torch, 'load')('x')",
        "from torch import *\nload('x')",
        "from torch.serialization import load\nload('x')",
        "import yaml\nyaml.unsafe_load('x')",
        "import joblib\njoblib.load('x')",
        "import cloudpickle",
        "from mlflow.pytorch import load_model\nload_model('x')",
        "eval('1')",
        "import builtins\nbuiltins.exec('1')",
        "__import__('os')",
        "import importlib\nimportlib.import_module('dill')",
        "import requests\nrequests.get('x', verify=False)",
        "import ssl\nssl.CERT_NONE",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "import zipfile\nzipfile.ZipFile('x')",
    ],
)
def test_it_would_be_noticed(text: str) -> None:
    assert list(offences(text)) != []


@pytest.mark.parametrize(
    "text",
    [
        "import re\nre.compile('x')",
        "import yaml\nyaml.safe_load('x')",
        "from safetensors.torch import load, save\nload(save({}))",
        "import json\njson.load(file)",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "model.eval()",
    ],
)
def test_what_is_harmless_is_left_alone(text: str) -> None:
    assert list(offences(text)) == []
