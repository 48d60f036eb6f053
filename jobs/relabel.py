"""Label stored regions as a Ray job; the options are those of `alt-ray relabel`.

ray job submit --working-dir . -- python jobs/relabel.py FEATURES --out DIR ...
"""

import sys

from _start import run_command

if __name__ == "__main__":
    run_command("relabel", sys.argv[1:], "relabel.py")
