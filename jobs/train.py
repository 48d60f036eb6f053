"""Train adapters as a Ray job; the options are those of `alt-ray train`.

ray job submit --working-dir . -- python jobs/train.py FEATURES --out DIR ...
"""

import sys

from _start import run_command

if __name__ == "__main__":
    run_command("train", sys.argv[1:], "train.py")
