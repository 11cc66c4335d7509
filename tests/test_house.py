"""The house's rules, read from the code itself."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "mp3net"
MODULES = sorted(PACKAGE.rglob("*.py"))
# What each room may import of the package; action modules, at the top, may import anything.
ROOMS = {
    "aot": {"aot", "model", "pjrt", "errors", "hardware", "stage"},
    "pjrt": {"pjrt", "errors"},
    "audio": {"audio", "errors"},
    "data": {"audio", "data", "errors", "stage"},
    "model": {"audio", "model", "errors", "stage"},
    "evaluation": {"audio", "evaluation", "errors"},
    "portable": {"aot", "data", "audio", "portable", "pjrt", "training", "errors", "stage", "systems"},
    "training": {"aot", "audio", "data", "evaluation", "pjrt", "training", "errors", "hardware", "stage"},
}


def imports(path):
    """Dotted names that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_there_is_something_to_read():
    assert len(MODULES) > 25 and set(ROOMS) <= {path.parent.name for path in MODULES}


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != PACKAGE], ids=lambda path: path.stem)
def test_imports_go_one_way(path):
    allowed = ROOMS[path.parent.name]
    for name in imports(path):
        if name.startswith("mp3net."):
            assert name.split(".")[1] in allowed | {"__version__", "__file__"}, f"{path.name} imports {name}"
        assert name.split(".")[0] != "gin", f"{path.name} knows gin"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_modules_are_short_and_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= 330
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            inner = isinstance(node, ast.FunctionDef) and any(
                node in ast.walk(other) and node is not other
                for other in ast.walk(tree)
                if isinstance(other, ast.FunctionDef)
            )
            assert inner or node.name in ("main",) or ast.get_docstring(node), (
                f"{path.name}: {node.name} has no docstring"
            )


@pytest.mark.parametrize(
    "module",
    ["mp3net", "mp3net.prepare", "mp3net.data.corpus", "mp3net.audio.files", "mp3net.cli"]
    + ["mp3net.aot.tpu_compiler", "mp3net.aot.stablehlo", "mp3net.aot.compiling"]
    + ["mp3net.pjrt.programs", "mp3net.pjrt.ahead"],
)
def test_what_workers_import_leaves_tensorflow_alone(module):
    script = f"import sys, {module}; assert 'tensorflow' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
