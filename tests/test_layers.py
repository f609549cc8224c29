"""The law of ARCHITECTURE: who may import whom, and what no module may do. Read from the syntax trees."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

LAYERS = (
    "types",
    "errors",
    "files",
    "locks",
    "seeding",
    "ranges",
    "rows",
    "results",
    "images",
    "store",
    "leaves",
    "complexity",
    "backgrounds",
    "pair_folder",
    "leaks",
    "degradations",
    "tensors",
    "hub",
    "shipped",
    "priors",
    "networks",
    "losses",
    "regularisation",
    "schedules",
    "data",
    "experiment",
    "checkpoints",
    "models",
    "restoration",
    "training_images",
    "training",
    "evaluation",
    "prior_training",
    "study",
    "recipes",
    "balance",
    "report",
    "toy",
    "app",
    "cli",
)
"""A module imports only from those before it in this list. A new module takes a place here first."""

SHARED = {"degradations": {"base"}, "networks": {"abstention", "base", "codes", "padding"}}
"""Families of alternatives, and what their members may share. In other packages siblings may import each other,
but not in a circle."""

BYTES = ("images", "backgrounds", "pair_folder", "leaks", "leaves", "evaluation.quality", "report")
"""The modules, and packages, that may know that an image file holds numbers up to 255."""

WITHOUT_TORCH = ("errors", "files", "locks", "rows", "results", "study.record", "balance.record", "report", "cli")
"""Modules, and packages with all that is in them, that can be imported without torch."""

SEEDED_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
GLOBAL_STATE = {"seed", "manual_seed", "manual_seed_all", "seed_all", "initial_seed", "default_generator"}
NUMPY_GENERATORS = {"BitGenerator", "Generator", "PCG64", "Philox", "SeedSequence", "default_rng"}


def name_of(file: Path) -> str:
    """The name of a file's module without the package's: "degradations.rain", "degradations", ""."""
    parts = file.relative_to(SOURCE / "unseen").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in sorted((SOURCE / "unseen").rglob("*.py"))}
MODULES = tuple(name for name in FILES if name)  # without unseen/__init__.py, which names all and imports none


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"), filename=str(FILES[name]))


def layer_of(name: str) -> str:
    return name.partition(".")[0]


def is_within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def is_package(name: str) -> bool:
    return FILES[name].name == "__init__.py"


def module_in(dotted: str) -> str:
    """The module that a dotted name lies in: "ranges" for "ranges.Range". The name itself where there is none."""
    module = dotted
    while module and module not in FILES:
        module = module.rpartition(".")[0]
    return module or dotted


def imports_of(name: str) -> Iterator[tuple[int, str]]:
    """Line and name of every module of ours that a module imports, wherever in it."""
    package = name if is_package(name) else name.rpartition(".")[0]
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == "unseen":
                    yield node.lineno, module_in(rest)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = package.split(".") if package else []
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
            else:
                top, _, base = (node.module or "").partition(".")
                if top != "unseen":
                    continue
            for alias in node.names:
                if not base and alias.name == "__version__":
                    continue
                yield node.lineno, module_in(f"{base}.{alias.name}".lstrip("."))


def place(name: str, node: ast.AST) -> str:
    return f"{FILES[name].relative_to(SOURCE.parent)}:{getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_a_place_in_the_order(name):
    assert layer_of(name) in LAYERS, f"give {layer_of(name)!r} its place in LAYERS, and in the architecture"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_those_above_it(name):
    for line, imported in imports_of(name):
        if layer_of(imported) != layer_of(name):
            above = LAYERS[: LAYERS.index(layer_of(name))]
            assert layer_of(imported) in above, f"{name}:{line} imports {imported}, which is no module above it"


@pytest.mark.parametrize("name", [name for name in MODULES if "." in name])
def test_alternatives_do_not_import_each_other(name):
    family, _, member = name.partition(".")
    for line, imported in imports_of(name):
        if layer_of(imported) == family:
            assert imported != family, f"{name}:{line} imports its own package: import from the sibling"
            sibling = imported.partition(".")[2]
            if family in SHARED:
                assert sibling in SHARED[family] - {member}, f"{name}:{line} imports its sibling {sibling}"


@pytest.mark.parametrize("family", sorted({layer_of(name) for name in MODULES if "." in name}))
def test_siblings_do_not_import_in_a_circle(family):
    members = [name for name in MODULES if layer_of(name) == family]
    graph = {name: {other for _, other in imports_of(name) if other in members and other != name} for name in members}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imported in a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_reads_results_imports_no_torch(name):
    modules = [f"unseen.{module}" for module in MODULES if is_within(module, (name,)) and "__main__" not in module]
    assert modules, f"there is no module unseen.{name}"
    program = f"import {', '.join(modules)}, sys; sys.exit('torch' in sys.modules and 'torch was imported')"
    path = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); "
    result = subprocess.run([sys.executable, "-c", path + program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def dotted(node: ast.AST) -> str:
    """ "torch.cuda.manual_seed" for such an expression; "" for others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def full_names(tree: ast.Module) -> dict[str, str]:
    """What the names that a module imports stand for: {"np": "numpy", "randn": "torch.randn"}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                short = alias.asname or alias.name.partition(".")[0]
                names[short] = alias.name if alias.asname else short
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def ambient_randomness(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Every use of a random state that belongs to the process rather than to an address."""
    names = full_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = dotted(node).partition(".")
            path = (names.get(first, "") + dot + rest).split(".") if first in names else [""]
            top, last = path[0], path[-1]
            if top == "random" and len(path) > 1:
                yield node, "the state of `random`"
            elif top == "torch" and last in GLOBAL_STATE:
                yield node, "the state of torch"
            elif path[:2] == ["numpy", "random"] and len(path) > 2 and path[2] not in NUMPY_GENERATORS:
                yield node, "the state of numpy"
        if isinstance(node, ast.Call):
            first, dot, rest = dotted(node.func).partition(".")
            path = (names.get(first, "") + dot + rest) if first in names else ""
            given = {keyword.arg for keyword in node.keywords}
            if path.startswith("torch.") and path.removeprefix("torch.") in SEEDED_DRAWS and "generator" not in given:
                yield node, f"{path} without a generator"
            if path == "numpy.random.default_rng" and not node.args and not given:
                yield node, f"{path} without a seed"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "seeding"])
def test_randomness_has_an_address(name):
    found = [f"{place(name, node)} uses {what}" for node, what in ambient_randomness(tree_of(name))]
    assert not found, "\n".join(found) + "\nAsk for generator(seed, ...) or work within seeding.seeded(...)."


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import torch\ntorch.manual_seed(0)", 1),
        ("import torch\ntorch.cuda.manual_seed_all(0)", 1),
        ("import torch\ntorch.Generator().manual_seed(0)", 0),
        ("import torch\ntorch.rand(3)", 1),
        ("import torch\ntorch.rand(3, generator=rng)", 0),
        ("from torch import randn\nrandn(3)", 1),
        ("import random\nrandom.random()", 1),
        ("from random import choice\nchoice([1])", 1),
        ("random = [1]\nrandom.sort()", 0),
        ("import numpy as np\nnp.random.rand(3)", 1),
        ("import numpy as np\nnp.random.default_rng()", 1),
        ("import numpy as np\nnp.random.default_rng(3)", 0),
    ],
)
def test_the_search_for_ambient_randomness_finds_it(source, count):
    assert len(list(ambient_randomness(ast.parse(source)))) == count


@pytest.mark.parametrize("name", [name for name in MODULES if not is_within(name, BYTES)])
def test_only_the_modules_at_the_border_know_of_bytes(name):
    numbers = (node for node in ast.walk(tree_of(name)) if isinstance(node, ast.Constant))
    found = [place(name, node) for node in numbers if isinstance(node.value, int | float) and node.value == 255]
    assert not found, f"255 in {', '.join(found)}: images are in [0, 1] everywhere but in {', '.join(BYTES)}"


@pytest.mark.parametrize("name", FILES)
def test_annotations_are_not_turned_into_strings(name):
    names = full_names(tree_of(name))
    assert names.get("annotations") != "__future__.annotations", "it defeats the checks of shapes"
