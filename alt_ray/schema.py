"""What the jobs write: the columns of labels and failures, and the version of the format. Knows nothing of how rows are made."""

import pyarrow as pa

from alt_ray.versions import byte_stamp

FORMAT_VERSION = 1
"""Rises with every change that an older reader would misread (versions.py); stands in every JSON and Parquet file of a job."""

# The classes of `failures.error` beside errors.DECODE_REASONS: what can go wrong after decoding.
ENCODE_ERRORS = ("not_finite",)  # the model gave NaN or infinity for this video: a float16 overflow, or broken weights

_METADATA = byte_stamp(FORMAT_VERSION)

FAILURE_COLUMNS = [
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("stage", pa.string(), nullable=False),
    pa.field("error", pa.string(), nullable=False),
    pa.field("message", pa.string(), nullable=False),
    pa.field("attempts", pa.int32(), nullable=False),
]

# Of results on their way to the sink: where they were made. Counted in run.json, not published.
MACHINE = pa.field("machine", pa.string())


def label_schema(embedding_dim: int) -> pa.Schema:
    """The columns of `labels/*.parquet`, one row per clip. `embedding` is L2-normalised."""
    scored = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))
    weighed = pa.list_(
        pa.struct([pa.field("name", pa.string()), pa.field("category", pa.string()), pa.field("weight", pa.float32())])
    )
    return pa.schema(
        [
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("start_s", pa.float64()),
            pa.field("end_s", pa.float64()),
            pa.field("label", pa.string()),
            pa.field("score", pa.float32()),
            pa.field("top_labels", scored),
            pa.field("entities", weighed),
            pa.field("embedding", pa.list_(pa.float32(), embedding_dim)),
            pa.field("duration_s", pa.float64()),
            pa.field("fps", pa.float64()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("codec", pa.string()),
            pa.field("frames_damaged", pa.int32()),
            pa.field("model_digest", pa.string()),
        ],
        metadata=_METADATA,
    )


def failure_schema() -> pa.Schema:
    """The columns of `failures/*.parquet`. `stage` is one of errors.STAGES, `error` of DECODE_REASONS or ENCODE_ERRORS."""
    return pa.schema(FAILURE_COLUMNS, metadata=_METADATA)


def written_schema() -> pa.Schema:
    """The columns of results that workers wrote themselves: a part (file) that holds the clip, or a failure, per row."""
    written = [pa.field("part", pa.string()), pa.field("num_bytes", pa.int64())]  # num_bytes: this clip's share of it
    return pa.schema([field.with_nullable(True) for field in FAILURE_COLUMNS] + [*written, MACHINE])


def result_schema(labels: pa.Schema) -> pa.Schema:
    """The columns of results on their way to the sink: a label or a failure per row; `error` is null for a label."""
    fields = [field.with_nullable(True) for field in labels]
    known = set(labels.names)
    failures = [field.with_nullable(True) for field in FAILURE_COLUMNS if field.name not in known]
    return pa.schema([*fields, *failures, MACHINE])
