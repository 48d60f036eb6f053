"""Search alignment temperature and merge ratio as a Ray job; the options are those of `alt-ray tune`.

ray job submit --working-dir . -- python jobs/tune.py FEATURES... --out DIR ...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package lies beside jobs/, installed or not

from alt_ray.cli import run_command

if __name__ == "__main__":
    run_command("tune", sys.argv[1:], "tune.py")
