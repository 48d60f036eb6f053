"""The one place that talks to MLflow: applies an operation to a tracking server. Knows nothing of threads, files or jobs.

An operation is a dict that JSON can hold: `op` (a method of Server), `run` (our own key of a run), `time_ms`, and what that
method reads. Each may be applied twice with the effect of once, so that one of unknown fate can simply be sent again.
"""

import contextlib
import json
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alt_ray.tracking.address import import_mlflow, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient


Op = dict[str, Any]

KEY_TAG, MODEL_TAG = "alt_ray.run_key", "alt_ray.model_key"
PARENT_TAG = "mlflow.parentRunId"
NOT_FOUND = 404
MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100  # what MLflow takes in one request


class UnreachableError(Exception):
    """The server can't be had now: nobody answers, the database is locked, the login fails. Later it may go well."""


class RefusedError(Exception):
    """The server answered, and will never take this."""


def batches(ops: Sequence[Op]) -> Iterator[tuple[Op, int]]:
    """Yield each operation with 1, but metrics of one run that follow each other as one operation, with their number."""
    index = 0
    while index < len(ops):
        op, count = ops[index], 1
        if op["op"] == "metrics":
            values = list(op["metrics"])
            for following in ops[index + 1 :]:
                is_same = following["op"] == "metrics" and following["run"] == op["run"]
                if not is_same or len(values) + len(following["metrics"]) > MAX_METRICS:
                    break
                values += following["metrics"]
                count += 1
            op = {**op, "metrics": values}
        yield op, count
        index += count


class Server:
    """A tracking server. `run_ids` maps our keys to the ids that it gave; they are filled as runs begin."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.run_ids: dict[str, str] = {}
        self._made: MlflowClient | None = None

    def apply(self, op: Op) -> None:
        """Do one operation. Raises UnreachableError or RefusedError, and nothing else."""
        if "path" in op and not Path(op["path"]).exists():
            raise RefusedError(f"{op['path']} does not exist")
        with _our_errors():
            getattr(self, f"_{op['op']}")(op)

    def recent(self, experiment: str, limit: int) -> list[dict[str, Any]]:
        """The newest runs of an experiment. Raises as `apply` does."""
        with _our_errors():
            found = self._client.get_experiment_by_name(experiment)
            runs = self._client.search_runs([found.experiment_id], max_results=limit) if found else []
        return [
            {
                "run_id": run.info.run_id,
                "name": run.info.run_name,
                "status": run.info.status,
                "start_ms": run.info.start_time,
                "end_ms": run.info.end_time,
            }
            for run in runs
        ]

    @property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        if self._made is None:
            self._made = MlflowClient(self.uri)  # makes the tables of a new database
        return self._made

    def _begin(self, op: Op) -> None:
        from mlflow.exceptions import MlflowException

        if op.get("run_id"):
            try:
                self.run_ids[op["run"]] = self._client.get_run(op["run_id"]).info.run_id
                return
            except MlflowException as exc:
                if exc.get_http_status_code() != NOT_FOUND:
                    raise
        experiment = self._experiment_id(op["experiment"])
        if found := self._client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{op['run']}'", max_results=1):
            self.run_ids[op["run"]] = found[0].info.run_id
            return
        tags = {**op["tags"], KEY_TAG: op["run"]}
        if op["parent"]:
            tags[PARENT_TAG] = self.run_ids.get(op["parent"], op["parent"])
        run = self._client.create_run(experiment, start_time=op["time_ms"], run_name=op["name"], tags=tags)
        self.run_ids[op["run"]] = run.info.run_id

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            # MLflow would put files where the process happens to stand, not where the database is.
            file = sqlite_file(self.uri)
            folder = str(file.parent / "mlruns" / urllib.parse.quote(name, safe="")) if file else None
            try:
                return self._client.create_experiment(name, artifact_location=folder)
            except MlflowException:
                found = self._client.get_experiment_by_name(name)  # another process was faster
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise RefusedError(f"the experiment {name!r} is deleted there: restore it, or name another --experiment")
        return found.experiment_id

    def _params(self, op: Op) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in op["params"].items()]
        for first in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self.run_ids[op["run"]], params=params[first : first + MAX_PARAMS])

    def _tags(self, op: Op) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in op["tags"].items()]
        for first in range(0, len(tags), MAX_TAGS):
            self._client.log_batch(self.run_ids[op["run"]], tags=tags[first : first + MAX_TAGS])

    def _metrics(self, op: Op) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, time_ms, step) for name, value, time_ms, step in op["metrics"]]
        for first in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self.run_ids[op["run"]], metrics=metrics[first : first + MAX_METRICS])

    def _dataset(self, op: Op) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = [InputTag("mlflow.data.context", op["context"]), InputTag("digest", op["full_digest"])]
        fields = {name: op[name] for name in ("name", "digest", "source_type", "source", "schema", "profile")}
        self._client.log_inputs(self.run_ids[op["run"]], [DatasetInput(Dataset(**fields), tags)])

    def _artifact(self, op: Op) -> None:
        self._client.log_artifact(self.run_ids[op["run"]], op["path"], op["folder"])

    def _text(self, op: Op) -> None:
        self._client.log_text(self.run_ids[op["run"]], op["text"], op["file"])

    def _model(self, op: Op) -> None:
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        client, run_id = self._client, self.run_ids[op["run"]]
        experiment = client.get_run(run_id).info.experiment_id
        found = client.search_logged_models([experiment], f"tags.`{MODEL_TAG}` = '{op['key']}'", max_results=1)
        model = (
            found[0]
            if found
            else client.create_logged_model(
                experiment, name=op["name"], source_run_id=run_id, tags={MODEL_TAG: op["key"]}, model_type="pyfunc"
            )
        )
        if model.status != "READY":
            described = Model.load(op["path"])
            described.run_id, described.model_id, described.model_uuid = run_id, model.model_id, model.model_id
            described.artifact_path = model.artifact_location
            described.save(str(Path(op["path"]) / "MLmodel"))
            client.log_model_artifacts(model.model_id, op["path"])
            client.finalize_logged_model(model.model_id, "READY")
        outputs = client.get_run(run_id).outputs
        if not any(output.model_id == model.model_id for output in (outputs.model_outputs if outputs else ())):
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    def _reopen(self, op: Op) -> None:
        self._client.update_run(self.run_ids[op["run"]], status="RUNNING")

    def _end(self, op: Op) -> None:
        self._client.set_terminated(self.run_ids[op["run"]], op["status"], op["time_ms"])


@contextlib.contextmanager
def _our_errors() -> Iterator[None]:
    try:
        import_mlflow()
    except ImportError as exc:
        raise UnreachableError(f"mlflow can't be imported here: {exc}") from exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except RefusedError:
        raise
    except MlflowException as exc:
        status = exc.get_http_status_code()
        is_final = 400 <= status < 500 and status not in (401, 403, 408, 429)
        raise (RefusedError if is_final else UnreachableError)(_reason(exc)) from exc
    except Exception as exc:
        # Stores raise whatever their libraries do (SQLAlchemy, boto, any plugin), and none of it may reach the job.
        raise UnreachableError(_reason(exc)) from exc


def _reason(exc: BaseException) -> str:
    """What lies at the bottom of an exception: MLflow wraps `Connection refused` into lines of addresses."""
    while (deeper := exc.__cause__ or exc.__context__) is not None:
        exc = deeper
    text = " ".join(str(exc).split())
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = json.loads(text[text.index("{") :])["message"]
    return (text or type(exc).__name__)[:200]
