"""Test a trained adapter as a Ray job; the options are those of `alt-ray evaluate`.

ray job submit --working-dir . -- python jobs/evaluate.py FEATURES --adapter CKPT ...
"""

import sys

from _start import run_command

if __name__ == "__main__":
    run_command("evaluate", sys.argv[1:], "evaluate.py")
