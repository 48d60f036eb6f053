"""Every job is a run in MLflow, and labels can be followed back to the features that their adapter was trained on."""

from pathlib import Path
from typing import Any

import pytest

from alt_ray.config import InputOptions, LabelOptions, OutputOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_train import EvaluateOptions, LearningOptions, ModelOptions, TrainJobOptions
from alt_ray.engine.encode import encode
from alt_ray.engine.evaluate import evaluate
from alt_ray.engine.label import label
from alt_ray.engine.relabel import relabel
from alt_ray.engine.train import train
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from alt_ray.report.confusion import write_confusion

QUIET = OutputOptions(quiet=True)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_labels_lead_back_to_the_checkpoint_and_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # artifacts lie beside the database
    actions = ("walking", "waving", "playing guitar")
    manifest = write_archive(tmp_path / "videos", 24, ArchiveOptions(seed=920_000, actions=actions))
    features, out = str(tmp_path / "features"), tmp_path / "run"
    encode(EncodeOptions(source=str(manifest), out=features, adapter="pocket", output=QUIET))
    train(
        TrainJobOptions(
            source=features,
            out=str(out),
            model=ModelOptions(blocks=1, width=64),
            learning=LearningOptions(epochs=2, batch=8, lr=1e-3, warmup_epochs=0),
            output=QUIET,
        ),
        draw=write_confusion,
    )
    best = str(out / "best")
    evaluate(EvaluateOptions(source=features, adapter=best, output=QUIET))
    relabel(RelabelOptions(source=features, out=str(tmp_path / "again"), adapter=best, output=QUIET))
    label(
        LabelOptions(
            source=str(manifest), out=str(tmp_path / "labels"), adapter=best, inputs=InputOptions(limit=4), output=QUIET
        )
    )

    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("alt_ray")
    runs: dict[str, Any] = {
        run.data.tags["alt_ray.command"]: run for run in client.search_runs([experiment.experiment_id])
    }
    assert set(runs) == {"encode", "train", "evaluate", "relabel", "label"}
    for command, run in runs.items():
        assert run.info.status == "FINISHED", command
        assert run.data.tags["versions.torch"]
        assert run.inputs.dataset_inputs, command
        assert "config.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
    for command in ("label", "relabel", "evaluate"):
        assert runs[command].data.tags["lineage.checkpoint.run_id"] == runs["train"].info.run_id, command
    for command in ("train", "relabel", "evaluate"):
        assert runs[command].data.tags["lineage.features.run_id"] == runs["encode"].info.run_id, command
    assert runs["label"].data.metrics["labelled"] == 4
    trained = runs["train"]
    assert [m.step for m in client.get_metric_history(trained.info.run_id, "loss")] == [1, 2]
    assert "test_top_1" in trained.data.metrics
    artifacts = {file.path for file in client.list_artifacts(trained.info.run_id)}
    assert {"checkpoint", "plots", "metrics.json"} <= artifacts
    model = mlflow.pyfunc.load_model(f"runs:/{trained.info.run_id}/model")
    video = next((tmp_path / "videos" / "videos").rglob("*.mp4"))
    (answer,) = model.predict([{"path": str(video)}]).to_dict("records")
    assert answer["error"] == ""
    assert answer["label"] in actions
