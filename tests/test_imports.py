"""Imports go one way, and the heavy ones stay where they belong (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alt_ray"
# Who may import whom, within the package. Top-level files: cli and what it runs are above everything, the rest below.
LOWEST = {
    "config",
    "config_corpus",
    "config_features",
    "config_train",
    "config_tune",
    "schema",
    "errors",
    "bundled",
    "jobpackage",
    "memory",
    "tables",
    "versions",
    "words",
    "",
}
ALLOWED = {
    "video": LOWEST,
    "remote": LOWEST | {"video"},
    "models": LOWEST | {"remote"},
    "corpus": LOWEST,
    "features": LOWEST | {"models", "video", "remote"},
    "pocket": LOWEST | {"models", "video", "corpus"},
    "evaluation": LOWEST | {"models", "video", "corpus", "pocket", "features"},
    "report": LOWEST | {"models", "video", "corpus", "evaluation"},
    "tracking": LOWEST | {"api", "models", "video"},
    "training": LOWEST | {"models", "corpus", "features", "evaluation", "remote"},
    "engine": LOWEST
    | {"models", "video", "remote", "corpus", "pocket", "evaluation", "features", "tracking", "training"},
}
MAY_IMPORT = {  # rooms, or single files
    "ray": {"engine"},
    "torch": {
        *("models", "evaluation", "training", "pocket", "engine", "api", "commands"),
        *("features/loader.py", "report/regions.py", "tracking/pyfunc.py"),
    },
    "open_clip": {"models"},
    "av": {"video", "pocket", "commands"},
    "alt_ray.report": {"report", "demo", "commands", "train_commands", "tune_commands"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py") if len(parts) == 1 else parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_within_the_package_go_one_way(path: Path) -> None:
    room = room_of(path)
    if room not in ALLOWED:
        return
    rooms = {name.split(".")[1] if "." in name else "" for name in imports_of(path) if name.split(".")[0] == "alt_ray"}
    known = {room_of(other) for other in FILES} | {""}
    assert (rooms & known) - {"__init__", "__version__"} <= ALLOWED[room] | {room}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_only_where_they_belong(path: Path) -> None:
    names = imports_of(path)
    for package, places in MAY_IMPORT.items():
        is_imported = any(f"{name}.".startswith(f"{package}.") for name in names)
        assert not is_imported or places & {room_of(path), str(path.relative_to(PACKAGE))}


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stat().st_size], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_each_file_opens_with_its_contract(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("alt_ray.cli", {"torch", "ray", "pyarrow", "av", "numpy"}),
        ("alt_ray.engine.label", {"torch", "open_clip", "torchvision"}),
        ("alt_ray.video.child", {"torch", "ray"}),
        ("alt_ray.corpus.files", {"torch", "ray", "pyarrow"}),
        ("alt_ray.report.page", {"torch", "ray", "pyarrow", "numpy", "PIL"}),
        ("alt_ray.demo", {"torch", "open_clip"}),
    ],
)
def test_importing_a_module_does_not_load(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not unwanted & set(loaded)
