"""Label videos as a Ray job; the options are those of `alt-ray label`.

ray job submit --working-dir . -- python jobs/label.py SOURCE --out DIR ...
"""

import sys

from _start import run_command

if __name__ == "__main__":
    run_command("label", sys.argv[1:], "label.py")
