"""Store the region features of videos as a Ray job; the options are those of `alt-ray encode`.

ray job submit --working-dir . -- python jobs/encode.py SOURCE --out DIR ...
"""

import sys

from _start import run_command

if __name__ == "__main__":
    run_command("encode", sys.argv[1:], "encode.py")
