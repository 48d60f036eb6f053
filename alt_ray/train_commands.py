"""The commands `alt-ray train` and `alt-ray evaluate`: run the job, draw its pictures, print its table. Knows nothing of how."""

import json
import sys

from alt_ray.config_train import EvaluateOptions, TrainJobOptions
from alt_ray.engine.report_runs import TrainingReport


def train(options: TrainJobOptions) -> int:
    """Exit status 0. Raises UsageError and JobError."""
    from alt_ray.engine.train import train as run
    from alt_ray.report.confusion import write_confusion

    _show(run(options, draw=write_confusion), as_json=options.output.json)
    return 0


def evaluate(options: EvaluateOptions) -> int:
    """Exit status 0. Raises UsageError."""
    from alt_ray.engine.evaluate import evaluate as run
    from alt_ray.report.confusion import write_confusion

    _show(run(options, draw=write_confusion), as_json=options.output.json)
    return 0


def _show(report: TrainingReport, *, as_json: bool) -> None:
    print(report.table(), file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(report.as_json()))
