"""The features that train and evaluate work on: a store, or videos, which are encoded into one first. Knows nothing of models.

Between a mistake in a command and what comes of it there may be days of decoding. So the caller says what it has to say of the
clips when they are known by name alone, and only then is a video opened.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from alt_ray.config import InputOptions
from alt_ray.config_features import EncodeOptions
from alt_ray.config_train import EvaluateOptions, TrainJobOptions
from alt_ray.engine.encode import encode
from alt_ray.engine.progress import announce
from alt_ray.engine.sinks import REGIONS
from alt_ray.errors import JobError
from alt_ray.features.store import FeatureStore, encoder_of_store
from alt_ray.video.manifest import Inputs, read_source
from alt_ray.video.uris import canonical_uri, local_path

FEATURES = "features"  # the store of a run's own videos, in its folder


def is_store(source: str) -> bool:
    """Whether a source is a feature store, by what is in the folder."""
    path = local_path(canonical_uri(source))
    return (Path(path) / REGIONS).is_dir() if path is not None else encoder_of_store(source) is not None


def store_named(command: str, options: TrainJobOptions | EvaluateOptions) -> FeatureStore:
    """Open the store that is the source of `command`. Raises FeatureError."""
    default = InputOptions()
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("root", "limit", "shard", "retry_failed")
        if getattr(options.inputs, name) != getattr(default, name)
    ]
    if given:
        text = f"{command}: {' and '.join(given)} choose videos to encode; {options.source} is a feature store, taken whole"
        announce(text, quiet=options.output.quiet)
    return FeatureStore(options.source)


def store_of_videos(
    command: str,
    options: TrainJobOptions | EvaluateOptions,
    folder: str,
    check: Callable[[Inputs], None],
    *,
    train_views: int = 0,
) -> FeatureStore:
    """Encode the videos that are the source of `command` into `folder`, as far as they are not there yet, and open the store.

    They are encoded as the adapter's encoder does it (its merging, its frames), or as the encoder named. `check` is called with
    what is known of the clips before any is decoded, and raises what is wrong. Raises UsageError; JobError also where more than
    --max-failed of the inputs failed.
    """
    encoding = EncodeOptions(
        source=options.source,
        out=folder,
        adapter=None if options.adapter == "none" else options.adapter,
        train_views=train_views,
        encoder=options.encoder,
        sampling=options.sampling,
        inputs=options.inputs,
        cluster=options.cluster,
        tracking=options.tracking,
        output=replace(options.output, json=False),
    )
    inputs = read_source(options.source, **options.inputs.chosen)
    check(inputs)
    summary = encode(encoding, inputs=inputs)
    num_encoded = summary.inputs - summary.num_failures
    text = f"{command}: {num_encoded} of {summary.inputs} videos are encoded in {folder}, {summary.num_failures} failed"
    announce(text + (f" ({folder}/failures says why)" if summary.num_failures else ""), quiet=options.output.quiet)
    if problem := summary.too_many_failed(options.inputs.max_failed, folder):
        raise JobError(problem)
    store = FeatureStore(folder)
    if num_others := store.clips().num_rows - num_encoded:
        announce(
            f"{command}: {folder} holds {num_others} clips of earlier runs, too, and all count",
            quiet=options.output.quiet,
        )
    return store
