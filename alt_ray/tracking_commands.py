"""The command `alt-ray track`: send what a server missed, or list recent runs. Knows nothing of what jobs track."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from alt_ray.errors import JobError, UsageError
from alt_ray.tracking.address import (
    NOWHERE,
    hold_settings,
    redacted,
    release_settings,
    resolved_experiment,
    resolved_uri,
    sqlite_file,
)
from alt_ray.tracking.server import RefusedError, Server, UnreachableError
from alt_ray.tracking.spool import ReplayReport, replay


@dataclass(frozen=True)
class TrackOptions:
    """Send to MLflow what a job could not send while the server was down; without --replay, list recent runs."""

    replay: str | None = None
    """File that a job named in its warning, or a folder with such files, as several processes of a job leave them."""
    tracking_uri: str | None = None
    """Where to; none: where the file was meant to go. For the list: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db here."""
    experiment: str | None = None
    """MLflow experiment whose runs are listed; none: MLFLOW_EXPERIMENT_NAME, or alt_ray."""
    limit: int = 10
    """Runs that are listed, the newest first."""
    json: bool = False
    """End standard output with one line of JSON."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise UsageError(f"--limit must be above 0, got {self.limit}")


def track(options: TrackOptions) -> int:
    """Replay or list; 0 if all went well, 1 if the server refused something for good.

    Raises UsageError for what can't be replayed, JobError if the server can't be had: the same call goes on from there.
    """
    return _list(options) if options.replay is None else _replay(options, Path(options.replay))


def _replay(options: TrackOptions, given: Path) -> int:
    files = sorted(given.glob("mlflow-*.jsonl")) if given.is_dir() else [given]
    if not files:
        raise UsageError(
            f"nothing to send in {given}: expected files named mlflow-*.jsonl; those that are sent end in .sent"
        )
    reports: list[ReplayReport] = []
    for file in files:
        report = replay(file, tracking_uri=options.tracking_uri)
        reports.append(report)
        before = f", {report.sent_before} had been sent before" if report.sent_before else ""
        print(f"{file}: {report.sent} operations sent to {report.uri}{before}", file=sys.stderr)
        for refusal in report.refused:
            print(f"warning: refused by the server: {refusal}", file=sys.stderr)
    if options.json:
        print(json.dumps([asdict(report) for report in reports]))
    return 1 if any(report.refused for report in reports) else 0


def _list(options: TrackOptions) -> int:
    uri = resolved_uri(options.tracking_uri)
    if uri == NOWHERE:
        raise UsageError(f"runs that go to {NOWHERE} are not kept, and can't be listed: name another --tracking-uri")
    if (file := sqlite_file(uri)) is not None and not file.exists():
        raise UsageError(f"no runs yet: there is no {file}; name another place by --tracking-uri")
    experiment = resolved_experiment(options.experiment)
    hold_settings()
    try:
        runs = Server(uri).recent(experiment, options.limit)
    except (RefusedError, UnreachableError) as exc:
        raise JobError(f"MLflow at {redacted(uri)} can't be had: {exc}") from exc
    finally:
        release_settings()
    out = sys.stderr if options.json else sys.stdout
    for run in runs:
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["start_ms"] / 1000))
        print(f"{begun}  {run['status']:9} {run['name']:24.24} {run['run_id']}", file=out)
    if not runs:
        print(f"no runs of the experiment {experiment!r} in {redacted(uri)}", file=out)
    if options.json:
        print(json.dumps(runs))
    return 0
