"""What importing does, and does not do. Each question is put to a fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unseen

PACKAGE = Path(unseen.__file__).parent


def ask(program: str) -> str:
    """What a fresh interpreter prints."""
    path = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
    result = subprocess.run([sys.executable, "-c", path + program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_whole_package_imports_without_torchvision():
    program = """
import importlib, pkgutil, unseen

def fail(name):
    raise

for module in pkgutil.walk_packages(unseen.__path__, "unseen.", onerror=fail):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("torchvision" in sys.modules)
"""
    assert ask(program) == "False"


def test_importing_the_package_imports_no_torch():
    assert ask("import unseen; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])") == "[]"


def test_importing_the_package_is_quick():
    def seconds() -> float:
        start = "import sys, time; start = time.perf_counter(); import unseen; print(time.perf_counter() - start)"
        return float(ask(start))

    assert min(seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", unseen.__all__)
def test_every_public_name_resolves(name):
    assert getattr(unseen, name) is not None


def test_the_names_for_people_and_for_type_checkers_are_the_same():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == unseen._HOMES
    assert set(unseen.__all__) == {*declared, "__version__"}
    assert dir(unseen) == sorted(unseen.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Snow"):
        unseen.Snow  # noqa: B018
