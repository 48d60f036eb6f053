"""The evaluate job: a trained adapter asked about stored clips by a protocol. In this process: regions are cheap to label.

Videos are encoded first, which is a job on Ray of its own. Knows nothing of the command line.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from alt_ray.config_train import EvaluateOptions
from alt_ray.corpus.files import load_corpus
from alt_ray.corpus.labels import read_labels
from alt_ray.engine.cluster import versions
from alt_ray.engine.feature_source import FEATURES, is_store, store_named, store_of_videos
from alt_ray.engine.model import adapter_digest
from alt_ray.engine.progress import announce
from alt_ray.engine.report_runs import TrainingReport, summary_of
from alt_ray.engine.runfolder import RunFolder
from alt_ray.engine.train import Draw, corpus_for, draw_confusions, entity_names, no_picture
from alt_ray.errors import UsageError
from alt_ray.evaluation.metrics import measure, per_class_table
from alt_ray.evaluation.names import disclosure
from alt_ray.evaluation.protocols import evaluation_tasks
from alt_ray.evaluation.splits import has_split
from alt_ray.evaluation.task import Task
from alt_ray.features.store import FeatureStore, encoder_of_store
from alt_ray.models.alt import AltModel
from alt_ray.models.checkpoint import EncoderRecord, check_encoder, load_checkpoint, same_encoder_of
from alt_ray.models.text import label_embeddings, prompts
from alt_ray.models.textcache import cached_text
from alt_ray.models.training import RegionClassifier
from alt_ray.tracking import recorded, tracked
from alt_ray.training.place import Place, local_device
from alt_ray.training.testing import scores_of
from alt_ray.video.manifest import Inputs
from alt_ray.video.uris import canonical_uri, child_uri


@dataclass(frozen=True)
class _Asked:
    """A model, the texts that it knows, and what it was trained by."""

    model: AltModel
    corpus_names: tuple[str, ...]
    template: str
    name: str
    training: dict[str, Any]
    digest: str = ""


def evaluate(options: EvaluateOptions, *, draw: Draw = no_picture) -> TrainingReport:
    """Test by the protocol, write metrics.json, tables and pictures, and return the results. Raises UsageError."""
    device = local_device(options.encoder.device)
    labels = read_labels(options.labels) if options.labels is not None else None
    store = _store(options, labels)
    clips = store.clips()
    tasks = evaluation_tasks(clips, labels, options.protocol)
    asked = _model(options, store)
    asked.model.to(device)
    _refuse_seen_clips(store, tasks, asked, options)
    folder = RunFolder(options.out or _beside(options.source))
    first_rows = clips["first_row"].to_numpy()
    begun_s = time.time()
    results = []
    embedded: dict[tuple[str, ...], Tensor] = {}
    with folder.lock(), tracked(options.tracking, "evaluate", spool_folder=folder.spool_folder) as run:
        run.params(recorded(options))
        run.tags({"versions": versions(), "weights_digest": store.record.encoder["weights_digest"]})
        if asked.training:
            run.lineage("checkpoint", options.adapter, asked.digest, asked.training.get("tracking"))
        run.lineage("features", store.uri, store.digest, store.run_reference())
        run.dataset("features", store.uri, store.digest, rows=store.rows.num_rows)
        for task in tasks:
            announce(f"evaluate {task.name}: {task.description}", quiet=options.output.quiet)
            own = folder.path if len(tasks) == 1 else folder.path / task.name
            own.mkdir(exist_ok=True)
            tests = {}
            for name, index in task.tests.items():
                asked_labels = task.test_labels[name]
                if asked_labels not in embedded:
                    embedded[asked_labels] = _embedded(options, store, asked, asked_labels)
                asked.model.set_labels(embedded[asked_labels], asked_labels)
                scores_NC = scores_of(
                    RegionClassifier(asked.model),
                    store,
                    first_rows[index],
                    len(asked_labels),
                    Place(device=device),
                    options.batch,
                )
                assert scores_NC is not None
                metrics = measure(scores_NC, task.target(index, asked_labels), asked_labels)
                np.savetxt(own / f"confusion-{name}.csv", metrics.confusion, fmt="%d", delimiter=",")
                (own / f"classes-{name}.txt").write_text(per_class_table(metrics) + "\n", encoding="utf-8")
                tests[name] = metrics.summary()
            results.append({"task": task.name, "protocol": task.description, "seed": task.seed, "tests": tests})
        names = sorted({label for task in tasks for names in task.test_labels.values() for label in names})
        in_corpus = disclosure(names, asked.corpus_names)
        report = summary_of(results, store.record, asked.name, in_corpus, time.time() - begun_s)
        run.metrics(report.flat())
        run.artifact(folder.write("metrics.json", report.as_json()))
        draw_confusions(folder.path, tasks, draw)
        folder.send()
        for picture in sorted(folder.path.glob("*.png")):
            run.artifact(picture, "plots")
    return report


def _store(options: EvaluateOptions, labels: tuple[str, ...] | None) -> FeatureStore:
    if is_store(options.source):
        return store_named("evaluate", options)
    if options.out is None:
        raise UsageError(
            f"say where the features of the videos in {options.source} and the results go: --out DIR (or name a feature store)"
        )
    features = RunFolder(options.out).child(FEATURES)

    def check(inputs: Inputs) -> None:
        prompts((), options.template or "photo")
        if "label" in inputs.given or encoder_of_store(features) is None:  # else the store may know labels
            evaluation_tasks(inputs.table, labels, options.protocol)
        digest = None if options.corpus is None else load_corpus(options.corpus).digest
        if options.adapter != "none":
            load_checkpoint(options.adapter, corpus_digest=digest)

    return store_of_videos("evaluate", options, features, check)


def _model(options: EvaluateOptions, store: FeatureStore) -> _Asked:
    record = EncoderRecord(**store.record.encoder)
    if options.adapter == "none":
        corpus = corpus_for(store, options.corpus, ())
        encoder = same_encoder_of(record, pretrained=options.encoder.pretrained)
        entities_KD = cached_text(encoder, corpus.texts())
        model = AltModel(None, entities_KD, entities_KD[:2], logit_scale=record.logit_scale)
        return _Asked(
            model.eval(), entity_names(corpus), options.template or "photo", "frozen CLIP, mean of frames", {}
        )
    digest = None if options.corpus is None else load_corpus(options.corpus).digest
    checkpoint = load_checkpoint(options.adapter, corpus_digest=digest)
    check_encoder(checkpoint.config.encoder, record)
    model = checkpoint.model(None)
    if options.temperature is not None:
        model.alignment = replace(model.alignment, temperature=options.temperature)
    template = options.template or checkpoint.config.template
    names = checkpoint.config.entity_names
    return _Asked(
        model,
        names,
        template,
        f"adapter {options.adapter}",
        checkpoint.config.training,
        str(adapter_digest(checkpoint)),
    )


def _embedded(options: EvaluateOptions, store: FeatureStore, asked: _Asked, labels: tuple[str, ...]) -> Tensor:
    if asked.model.label_names == labels and options.template is None:
        return asked.model.labels  # those of the training: no encoder is needed
    encoder = same_encoder_of(EncoderRecord(**store.record.encoder), pretrained=options.encoder.pretrained)
    return label_embeddings(encoder, labels, asked.template)


def _refuse_seen_clips(store: FeatureStore, tasks: list[Task], asked: _Asked, options: EvaluateOptions) -> None:
    """Raise UsageError where an adapter would be tested on clips of this store that it was trained on."""
    trained = asked.training.get("protocol_options")
    if trained is None or asked.training.get("features_digest") != store.digest:
        return
    given, seed = options.protocol, asked.training.get("seed")
    is_split = has_split(store.clips())
    if trained["leave_one_group_out"]:
        problem = (
            "all groups of these features but one, by --leave-one-group-out; its test stands in the run's metrics.json"
        )
    elif not is_split and "zero-shot" in (trained["protocol"], given.protocol):
        problem = "clips of these features, which have no column split: encode those to be tested apart"
    elif is_split and given.all_clips:
        problem = "the training part of these features; leave out --all-clips"
    elif not is_split and ([task.seed for task in tasks] != [seed] or given.test_share != trained["test_share"]):
        problem = f"clips chosen by seed {seed}; give --seeds {seed} --test-share {trained['test_share']:g} to test the others"
    else:
        return
    raise UsageError(f"the adapter {options.adapter} was trained on {problem}")


def _beside(source: str) -> str:
    return child_uri(canonical_uri(source), "evaluation")
