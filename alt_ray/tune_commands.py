"""The command `alt-ray tune`: run the search, draw its pictures, print its tables. Knows nothing of how."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alt_ray.config_tune import TuneOptions

if TYPE_CHECKING:
    from alt_ray.evaluation.outcome import Outcome


def tune(options: TuneOptions) -> int:
    """Exit status 0. Raises UsageError, JobError, and KeyboardInterrupt when it was stopped."""
    from alt_ray.engine.tune import tune as run

    report = run(options, draw=_draw)
    out = sys.stderr if options.output.json else sys.stdout
    print(report.table(), file=out)
    if options.output.json:
        print(json.dumps(report.as_json()))
    return 0


def _draw(folder: Path, outcome: "Outcome") -> list[Path]:
    from alt_ray.report.tuning import write_pictures
    from alt_ray.report.tuning_page import write_page

    return [*write_pictures(folder, outcome), write_page(folder, outcome)]
