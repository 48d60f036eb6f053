"""Search alignment temperature and merge ratio as a Ray job; the options are those of `alt-ray tune`.

ray job submit --working-dir . -- python jobs/tune.py FEATURES... --out DIR ...
"""

import sys

from _start import run_command

if __name__ == "__main__":
    run_command("tune", sys.argv[1:], "tune.py")
