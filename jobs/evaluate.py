"""Test a trained adapter as a Ray job; the options are those of `alt-ray evaluate`.

ray job submit --working-dir . -- python jobs/evaluate.py FEATURES --adapter CKPT ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package lies beside jobs/, installed or not

from alt_ray.cli import run_command

if __name__ == "__main__":
    run_command("evaluate", sys.argv[1:], "evaluate.py")
