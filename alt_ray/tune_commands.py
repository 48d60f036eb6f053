"""The command `alt-ray tune`: run the search, draw its pictures, print its tables. Knows nothing of how."""

import json
import sys

from alt_ray.config_tune import TuneOptions


def tune(options: TuneOptions) -> int:
    """Exit status 0. Raises UsageError, JobError, and KeyboardInterrupt when it was stopped."""
    from alt_ray.engine.tune import no_pictures
    from alt_ray.engine.tune import tune as run

    report = run(options, draw=no_pictures)
    out = sys.stderr if options.output.json else sys.stdout
    print(report.table(), file=out)
    if options.output.json:
        print(json.dumps(report.as_json()))
    return 0
