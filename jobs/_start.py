"""What the job scripts share: finding the package, which may lie beside this folder or be installed on the cluster."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

try:
    from alt_ray.cli import run_command
except ModuleNotFoundError as exc:
    raise SystemExit(
        f"error: no module {exc.name} for {sys.executable} on the cluster. `ray job submit --working-dir .` sends the scripts "
        "of jobs/ alone, a few kilobytes: install alt_ray where the cluster's jobs run (docs/jobs.md), or send its code with "
        "the job: alt-ray submit"
    ) from exc

__all__ = ["run_command"]
