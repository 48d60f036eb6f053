"""What a training depends on, and what can be known to be wrong of it before its videos are decoded. Knows nothing of workers."""

from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc

from alt_ray.config_train import TrainJobOptions
from alt_ray.corpus.entities import Corpus, read_templates
from alt_ray.corpus.files import load_corpus
from alt_ray.engine.annotate import differences
from alt_ray.engine.cluster import cluster
from alt_ray.engine.runfolder import RunFolder
from alt_ray.engine.sinks import REGIONS, OutputFolder
from alt_ray.errors import UsageError
from alt_ray.evaluation.protocols import training_tasks
from alt_ray.features.store import FeatureStore, encoder_of_store
from alt_ray.models.checkpoint import load_checkpoint
from alt_ray.models.cost import read_model_config
from alt_ray.models.text import prompts
from alt_ray.training.methods import adapter_config
from alt_ray.video.manifest import Inputs


def settings_of(
    options: TrainJobOptions, store: FeatureStore | None, corpus: Corpus | None, labels: tuple[str, ...] | None
) -> dict[str, Any]:
    """What results depend on: a folder holds those of one. Without what is None, as nothing is known of it yet."""
    learning = asdict(options.learning)
    learning.pop("accumulate")  # changes how a step is computed, not what
    model = asdict(options.model)
    model = {name: value for name, value in model.items() if name not in ("corpus", "entity_templates")}
    settings: dict[str, Any] = {"model": model, "learning": learning, "protocol": asdict(options.protocol)}
    if store is not None:
        settings |= {"features": store.digest, "weights_digest": store.record.encoder["weights_digest"]}
    if corpus is not None:
        settings["corpus_digest"] = corpus.digest
    if labels is not None:
        settings["labels"] = list(labels)
    return settings


def check_videos(
    options: TrainJobOptions, labels: tuple[str, ...] | None, folder: RunFolder, features: str, inputs: Inputs
) -> None:
    """Raise whatever is known to be wrong of a training before its videos are decoded."""
    model = options.model
    prompts((), model.template)
    corpus = load_corpus(model.corpus, read_templates(model.entity_templates))
    adapter_config(model, _model_config(options))
    tasks = None
    if "label" in inputs.given or encoder_of_store(features) is None:  # else the store may know labels
        tasks = training_tasks(inputs.table, labels, options.protocol)
    # Not known yet: which corpus is the default (by the encoder), and whether a label loses all of its clips to failures.
    named = tasks[0].labels if tasks and labels is not None else None
    folder.check(settings_of(options, None, corpus if model.corpus is not None else None, named), partly=True)
    if folder.read_run() is not None and not options.inputs.retry_failed:
        _refuse_other_videos(folder, OutputFolder(features, REGIONS), inputs)
    if options.uses_ray:
        from alt_ray.engine.resources import plan_training

        with cluster(options.cluster.address, options.cluster.wanted) as available:
            plan_training(available, options.workers, options.cpus_per_worker, options.encoder.device)


def _model_config(options: TrainJobOptions) -> dict[str, Any]:
    if options.adapter is not None:
        return load_checkpoint(options.adapter).config.encoder.model_config
    assert options.encoder.encoder is not None  # or EncodeOptions has refused it
    return read_model_config(options.encoder.encoder)


def _refuse_other_videos(folder: RunFolder, features: OutputFolder, inputs: Inputs) -> None:
    """A training that was begun goes on with the clips and labels that it has."""
    is_done = features.published(inputs.table["video_id"]).is_done
    num_new, num_changed = len(is_done) - (pc.sum(is_done).as_py() or 0), differences(features, inputs)[0].num_rows
    if num_new or num_changed:
        raise UsageError(
            f"the training in {folder.uri} was begun with other features than {inputs.source} gives: {num_new} videos are not "
            f"in {features.uri}, {num_changed} have another label, split or group there; choose another --out (`alt-ray encode` "
            "into a folder apart makes a store that several trainings share)"
        )
