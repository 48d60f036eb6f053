"""`alt-ray submit`: what is checked before anything is sent, and what is said of the job. Knows nothing of how it is followed."""

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from alt_ray import bundled
from alt_ray.arguments import parse, parsed, with_config
from alt_ray.config import LabelOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_submit import SubmitOptions
from alt_ray.config_train import EvaluateOptions, TrainJobOptions
from alt_ray.config_tune import TuneOptions
from alt_ray.errors import UsageError
from alt_ray.jobpackage import files_named

JOBS: dict[str, type[Any]] = {
    "label": LabelOptions,
    "encode": EncodeOptions,
    "relabel": RelabelOptions,
    "train": TrainJobOptions,
    "evaluate": EvaluateOptions,
    "tune": TuneOptions,
}
SHARED = "an absolute path that all machines of the cluster see, or an address such as s3://bucket/folder"
_OWN = {f"--{field.name.replace('_', '-')}": field.type is bool for field in fields(SubmitOptions)}  # whether a flag
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def submit(argv: Sequence[str], program: str) -> int:
    """Run `alt-ray submit ARGV`, and return the job's exit status. Raises UsageError before anything is sent, else JobError."""
    own, command, arguments = split(argv)
    options = parse(SubmitOptions, own, program)
    if command is None:
        raise UsageError(f"name the command to run: {program} [options] COMMAND ..., with COMMAND {', '.join(JOBS)}")
    named = check(command, arguments, Path(options.working_dir))
    address = address_of(options)

    from alt_ray.engine.submit import follow
    from alt_ray.engine.submit import submit as send

    job = send(
        command,
        arguments,
        address=address,
        job_name=options.job_name,
        named=named,
        with_pocket=options.with_pocket,
        stop_wait_s=options.stop_wait_s,
    )
    travelled = f" and {', '.join(sorted(named))}" if named else ""
    print(f"{job.job_id}: sent to {address} with its code{travelled}, {job.num_bytes / 1e6:.2g} MB", file=sys.stderr)
    if options.no_wait:
        print(job.job_id)
        return 0
    try:
        return follow(job)
    except KeyboardInterrupt:
        print(f"{job.job_id} was left alone; `ray job logs {job.job_id}` shows its log", file=sys.stderr)
        return 1


def split(argv: Sequence[str]) -> tuple[list[str], str | None, list[str]]:
    """Return the options of submit itself, wherever they stand, the command, and what is the command's.

    Behind the command, --address is the command's own: the Ray that the job joins.
    """
    own: list[str] = []
    arguments: list[str] = []
    command, rest = None, list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        if name in _OWN and not (command and name == "--address"):
            has_value_behind = not equals and not _OWN[name] and rest
            own += [argument, rest.pop(0)] if has_value_behind else [argument]
        elif command:
            arguments.append(argument)
        elif argument.startswith("-"):
            own.append(argument)  # help, or wrong
        elif argument not in JOBS:
            raise UsageError(f"no job {argument!r}; a cluster can run {', '.join(JOBS)}")
        else:
            command = argument
    return own, command, arguments


def check(command: str, arguments: Sequence[str], folder: Path) -> dict[str, Path]:
    """Check the arguments of a command as it does itself, and return the files that must travel with it, by relative path.

    Raises UsageError for what could not be right on another machine, too.
    """
    if not folder.is_dir():
        raise UsageError(f"--working-dir {folder} is no folder")
    here = Path.cwd()
    os.chdir(folder)  # as it will be there: --config names a file in it
    try:
        kind, program = JOBS[command], f"alt-ray {command}"
        if command in (
            "train",
            "tune",
        ):  # whether the pocket is their default depends on the source, which may be elsewhere
            options = parsed(kind, with_config(kind, list(arguments)), program)
        else:
            options = parse(kind, arguments, program)
    finally:
        os.chdir(here)
    if options.out is not None and _is_relative(options.out):
        raise UsageError(
            f"--out {options.out} would lie in the job's own folder on the cluster, which goes when the job ends: give {SHARED}"
        )
    named = files_named(options, folder)
    sources = options.sources if command == "tune" else (options.source,)
    adapter = getattr(options, "adapter", None)
    folders = [adapter] if adapter and (folder / adapter).is_dir() and bundled.adapter_folder(adapter) is None else []
    for path in (*sources, *folders):
        if _is_relative(path) and path not in named:
            raise UsageError(
                f"{path} is no file in {folder.resolve()}, and only files travel with a job: give {SHARED}"
            )
    if options.tracking.tracking_uri is None:
        print(
            "note: without --tracking-uri, the MLflow run is kept where MLFLOW_TRACKING_URI says on the cluster; where it says "
            "nothing, it goes with the job's folder",
            file=sys.stderr,
        )
    return named


def _is_relative(path: str) -> bool:
    return "://" not in path and not Path(path).is_absolute()


def address_of(options: SubmitOptions) -> str:
    """The dashboard's address that is given or set."""
    given = {"--address": options.address, **{name: os.environ.get(name) for name in ADDRESSES}}
    for where, address in given.items():
        if address and address.startswith(("http://", "https://")):
            return address
        if address and where == "--address":
            raise UsageError(f"--address {address} is no address of a dashboard; expected one such as http://head:8265")
    raise UsageError(
        f"say where the cluster is: --address http://HEAD:8265 (its dashboard), or {ADDRESSES[0]} in the environment"
    )
