"""The wheel: small, whole, and its demo runs from an empty folder, offline, with nothing of this checkout."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import alt_ray

ROOT = Path(__file__).parents[1]
MAX_BYTES = 15_000_000


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is tracked: a build leaves files behind."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    names = run("git", "ls-files", cwd=ROOT).split("\n")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", out, copy, cwd=copy)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_is_small_and_its_demo_runs_offline(wheel: Path, tmp_path: Path) -> None:
    assert wheel.stat().st_size < MAX_BYTES
    assert wheel.name == f"alt_ray-{alt_ray.__version__}-py3-none-any.whl"

    home, here = tmp_path / "venv", tmp_path / "empty"
    here.mkdir()
    venv.create(home)
    python = home / "bin" / "python"
    (packages,) = (home / "lib").glob("python*/site-packages")
    # The dependencies of this environment, but not its alt_ray: what .pth files there say counts for it alone.
    known = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(known))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--force-reinstall", wheel, cwd=here)

    assert run(python, "-c", "import alt_ray; print(alt_ray.__file__)", cwd=here).startswith(str(packages))
    command = home / "bin" / "alt-ray"
    assert run(command, "--version", cwd=here).startswith(f"alt-ray {alt_ray.__version__} ")
    assert "entities" in run(command, "corpus", "stats", cwd=here)
    summary = json.loads(run(command, "demo", "--no-browser", "--json", cwd=here).splitlines()[-1])
    assert summary["labelled"] == summary["inputs"] == 60
    assert summary["unseen_top1"] > 0.25  # an eighth would be chance
    assert (here / "demo" / "index.html").stat().st_size > 100_000
