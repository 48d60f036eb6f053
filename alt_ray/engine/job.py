"""What every job over clips shares: inputs in, one published row (or part) or failure for each out, resumable and balanced.

    inputs --> decode (many processes) --> frames --> a model (few processes, with the GPUs) --> ... --> driver --> published

A job says what its stream of results is and how they are published; what is done already, passes, balance and record are here.
Knows nothing of the command line, nor of what the results are.
"""

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray.exceptions

from alt_ray.config import InputOptions, OutputOptions, TrackingOptions
from alt_ray.engine.autoscaling import asks_for_machines
from alt_ray.engine.cluster import versions
from alt_ray.engine.progress import Progress
from alt_ray.engine.sinks import RUN_FILE, OutputFolder, Published, refuse_other_settings
from alt_ray.engine.startup import Startup
from alt_ray.engine.writers import Writer
from alt_ray.errors import JobError, UsageError
from alt_ray.memory import peak_memory_mib
from alt_ray.tables import wide_column
from alt_ray.tracking import Tracker, recorded, tracked
from alt_ray.video.manifest import Inputs
from alt_ray.video.uris import local_path

MAX_PASSES = 3  # what a pass left out (results lost with a node) is done in another


@dataclass
class Summary:
    """The balance of one run. `inputs = labelled + failed + already_done`, or the run has failed.

    `labelled` counts what the run made a result of, whatever the job: labels, or regions.
    """

    inputs: int
    labelled: int = 0
    failed: int = 0
    already_done: int = 0
    videos_per_s: float = 0.0
    failed_before: int = 0  # of those already done

    @property
    def is_balanced(self) -> bool:
        return self.inputs == self.labelled + self.failed + self.already_done

    @property
    def num_failures(self) -> int:
        """Inputs without a result, in this run and in earlier ones: however often the job was interrupted."""
        return self.failed + self.failed_before

    def too_many_failed(self, max_failed: float, out: str) -> str | None:
        """What is to be said where more than a share of the inputs failed, which makes the whole command fail; else None."""
        if self.num_failures <= max_failed * self.inputs:
            return None
        return (
            f"{self.num_failures} of {self.inputs} inputs failed, more than --max-failed {max_failed:g} allows; "
            f"{out}/failures says why"
        )


def digest_of_ids(ids: pa.ChunkedArray) -> str:
    """Tells lists of inputs apart, whatever their order."""
    found = hashlib.sha256()
    ids = wide_column(ids)
    ordered = ids.take(pc.sort_indices(ids))
    for start in range(0, len(ordered), 4096):  # a list of all of them would be most of the driver's memory
        found.update("".join(ordered.slice(start, 4096).to_pylist()).encode())
    return "sha256:" + found.hexdigest()


@dataclass
class ClipJob:
    """One run, once its settings are known and its cluster is up. `run` may be called once, under the folder's lock.

    `stream` gives the results of some inputs as they come, `machines_for` what machines so many of them deserve (an autoscaler is
    asked for it meanwhile), `writer` what publishes results. `settings` is what results depend on:
    a folder holds those of one. `record` is what run.json says beside what every job says. `made_of` is the lineage: of what
    (features, checkpoint), its uri and digest, and the tracked run that made it. `startup` is what passed until here.
    """

    command: str
    options: Any
    input_options: InputOptions
    output_options: OutputOptions
    inputs: Inputs
    folder: OutputFolder
    settings: dict[str, Any]
    tracking: TrackingOptions
    made_of: dict[str, tuple[str, str, dict[str, Any] | None]]
    stream: Callable[[pa.Table], Iterator[pa.Table]]
    machines_for: Callable[[int], Mapping[str, int]]
    writer: Callable[[], Writer]
    startup: Startup = field(default_factory=Startup)
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    _machines: Counter[str] = field(default_factory=Counter)  # results of this run, by where they were made

    def __post_init__(self) -> None:
        if self.input_options.shard is not None:  # a folder holds one part: two would be missing each other's inputs
            self.settings = {**self.settings, "shard": self.input_options.shard}

    def check(self) -> None:
        """Raise UsageError for a folder of other settings. Under the lock: another run may just have ended."""
        if (before := self.folder.read_run()) is not None:
            refuse_other_settings(before.get("settings", {}), self.settings, self.folder.uri)

    def run(self) -> Summary:
        """Do what is missing. Raises UsageError for a folder of other settings, JobError where the balance does not hold."""
        self.check()
        with tracked(self.tracking, self.command, spool_folder=local_path(self.folder.uri)) as run:
            run.params(recorded(self.options))
            run.tags({"versions": versions(), **{name: self.record[name] for name in self.record if "digest" in name}})
            ids = self.inputs.table["video_id"]
            run.dataset("inputs", self.inputs.source, digest_of_ids(ids), rows=len(ids))
            for what, (uri, digest, reference) in self.made_of.items():
                run.lineage(what, uri, digest, reference)
            try:
                summary = self._run(run)
            finally:
                with contextlib.suppress(JobError):  # a store that is away must not hide what happened
                    run.json(RUN_FILE, self.folder.read_run())
        return summary

    def _run(self, run: Tracker) -> Summary:
        started_s = time.time()
        self.startup.end("starting the tracking")
        self.record = {**self.record, "tracking": run.reference()}
        if self.input_options.retry_failed:
            self.folder.forget_failures()
        before = now = self._published()
        summary = Summary(inputs=self.inputs.table.num_rows, already_done=before.num_done, failed_before=before.failed)
        self._record("running", summary, before, started_s)
        self.startup.end("looking at what is done")
        status = "failed"
        try:
            for _ in range(MAX_PASSES):
                if now.num_done == summary.inputs:
                    break
                self._pass(self.inputs.table.filter(pc.invert(now.is_done)), summary)
                now = self._published()
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            with contextlib.nullcontext() if status == "done" else contextlib.suppress(JobError):  # as above
                now = self._published()
                summary.labelled = now.labelled - before.labelled
                summary.failed = now.failed - before.failed
                if status == "done" and (not summary.is_balanced or now.num_twice):
                    status = "failed"
                self._record(status, summary, now, started_s)
            run.metrics(
                {**asdict(summary), "seconds_to_first_result": self.startup.total_s, "wall_s": time.time() - started_s}
            )
        if status != "done":
            raise JobError(
                f"the balance does not hold: {summary.inputs} inputs, but {summary.labelled} done, {summary.failed} failed, "
                f"{summary.already_done} done before, {now.num_twice} twice; run the same command again to go on"
            )
        return summary

    def _pass(self, clips: pa.Table, summary: Summary) -> None:
        with (
            self.writer() as writer,
            asks_for_machines(self.machines_for(clips.num_rows)),
            Progress(self.command, clips.num_rows, quiet=self.output_options.quiet) as progress,
        ):
            try:
                for results in self.stream(clips):
                    done, failed = writer.add(results)
                    self._machines.update(
                        {row["values"]: row["counts"] for row in pc.value_counts(results["machine"]).to_pylist()}
                    )
                    progress.add(done + failed, failed)
                    if not self.startup.is_over:
                        self.startup.finish("first clips")
                        progress.say(f"{self.command}: {self.startup}")
            except ray.exceptions.RayError as exc:
                cause = getattr(exc, "cause", None) or exc
                if isinstance(cause, UsageError | JobError):
                    raise cause from exc
                raise JobError(
                    f"a worker failed ({type(cause).__name__}: {cause}); what was finished is kept in {self.folder.uri}"
                ) from exc
            finally:
                summary.videos_per_s = round(progress.videos_per_s, 3)

    def _published(self) -> Published:
        return self.folder.published(self.inputs.table["video_id"])

    def _record(self, status: str, summary: Summary, published: Published, started_s: float) -> None:
        self.folder.write_run(
            {
                "command": self.command,
                "status": status,
                "notes": self.notes,
                "summary": asdict(summary),
                "failures": published.failures,
                "inputs": {
                    "source": self.inputs.source,
                    "other_files": self.inputs.other_files,
                    "duplicate_rows": self.inputs.duplicates,
                },
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started_s)),
                "wall_s": round(time.time() - started_s, 2),
                "seconds_to_first_result": self.startup.total_s and round(self.startup.total_s, 2),
                "startup": self.startup.as_json(),
                "machines": dict(self._machines.most_common()),
                **self.record,
                "settings": self.settings,
                "options": recorded(self.options),
                "driver_peak_mib": peak_memory_mib(),
                "versions": versions(),
            }
        )
