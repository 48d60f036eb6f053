"""Labels, splits and groups that changed after a clip was encoded: small parts beside the regions. Knows nothing of regions.

    annotations/part-00000001-HEX.parquet    video_id, label, split, group: what holds from then on, also where it is null

Parts are never changed. Their numbers order them, whatever the clocks say, and of the rows of a clip the last one holds. Two
parts can have one number only where two jobs wrote into one folder at once, which nothing wholly prevents on an object store;
their names order them then.
"""

import uuid
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from alt_ray.errors import FeatureError
from alt_ray.schema import FORMAT_VERSION
from alt_ray.tables import each_part, index_in, is_in, wide, wide_column
from alt_ray.versions import byte_stamp, check_metadata

ANNOTATIONS = "annotations"
ANNOTATED = ("label", "split", "group")

SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.large_string(), nullable=False),
        *(pa.field(name, pa.large_string()) for name in ANNOTATED),
    ],
    metadata=byte_stamp(FORMAT_VERSION),
)


def next_part_name(names: Sequence[str]) -> str:
    """The name of the part that comes after those with these names."""
    numbers = [name.split("-")[1] for name in names if name.count("-") == 2]
    last = max((int(number) for number in numbers if number.isdigit()), default=0)
    return f"part-{last + 1:08d}-{uuid.uuid4().hex[:12]}.parquet"


def read_annotations(filesystem: arrow_fs.FileSystem, folder: str) -> pa.Table:
    """What holds now, one row of SCHEMA for each clip that has any, of the parts in the folder `folder` of a store.

    Raises FeatureError for a part that can't be read.
    """
    found = filesystem.get_file_info(arrow_fs.FileSelector(f"{folder}/{ANNOTATIONS}", allow_not_found=True))
    newest_first = sorted((info.path for info in found if info.extension == "parquet"), reverse=True)

    def read(path: str) -> pa.Table:
        try:
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                check_metadata(file.schema_arrow.metadata, FORMAT_VERSION, path, error=FeatureError)
                return wide(file.read(SCHEMA.names)).cast(SCHEMA)
        except (OSError, ValueError) as exc:
            raise FeatureError(f"{path} can't be read ({exc}); delete it and run `alt-ray encode` again") from exc

    table = pa.concat_tables([SCHEMA.empty_table(), *each_part(read, newest_first, filesystem)]).combine_chunks()
    first = index_in(table["video_id"], table["video_id"])
    return table.filter(pa.array(first.to_numpy() == np.arange(table.num_rows)))


def laid_over(rows: pa.Table, annotations: pa.Table) -> pa.Table:
    """Rows with video_id, label, split and group, with those of `annotations` in place of their own where there are any."""
    if not annotations.num_rows:
        return rows
    place = index_in(rows["video_id"], annotations["video_id"])
    has_any = pc.is_valid(place)
    for name in ANNOTATED:
        values = pc.if_else(has_any, annotations[name].take(place), wide_column(rows[name]))
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


def changed(
    store: pa.Table, annotations: pa.Table, inputs: pa.Table, given: frozenset[str]
) -> tuple[pa.Table, dict[str, int]]:
    """The annotations that make a store say what a source says: rows of SCHEMA of the clips whose values differ, and how many
    clips get another label, split and group.

    store: what the parts with regions say, as `as_encoded` reads it. inputs: video_id and ANNOTATED of the source; clips that the
    store lacks are passed over. given: the columns that the source has; what it has no column for stays as it is.
    """
    place = index_in(inputs["video_id"], store["video_id"])
    said = {name: wide_column(store[name].take(place)) for name in ANNOTATED}
    before = laid_over(pa.table({"video_id": inputs["video_id"], **said}), annotations)
    is_known = pc.or_(pc.is_valid(place), is_in(inputs["video_id"], annotations["video_id"])).to_numpy()
    after = {name: wide_column((inputs if name in given else before)[name]) for name in ANNOTATED}
    differs = {name: is_known & _differs(before[name], after[name]) for name in ANNOTATED}
    rows = pa.array(np.logical_or.reduce(list(differs.values())))
    table = pa.table({"video_id": wide_column(inputs["video_id"]), **after}).filter(rows).cast(SCHEMA)
    return table, {name: int(values.sum()) for name, values in differs.items()}


def as_encoded(filesystem: arrow_fs.FileSystem, parts: Sequence[str]) -> pa.Table:
    """video_id and ANNOTATED of each clip as its part says, not looking at annotations; dictionaries, since labels repeat.

    Raises FeatureError for a part that can't be read.
    """

    def read(path: str) -> pa.Table:
        try:
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                table = file.read(["video_id", "view", *ANNOTATED])
        except (OSError, ValueError) as exc:
            raise FeatureError(f"{path} can't be read ({exc}); delete it and run `alt-ray encode` again") from exc
        # One chunk first: rows stand in row groups of their own, and a dictionary for each would be most of the work.
        table = table.filter(pc.equal(table["view"], 0)).combine_chunks()
        columns = {name: table[name].dictionary_encode() for name in ANNOTATED}
        return pa.table({"video_id": table["video_id"], **columns})

    kinds = [("video_id", pa.string()), *((name, pa.dictionary(pa.int32(), pa.string())) for name in ANNOTATED)]
    tables = [pa.schema(kinds).empty_table(), *each_part(read, parts, filesystem)]
    found = pa.concat_tables(tables).unify_dictionaries()
    return found.set_column(0, "video_id", wide_column(found["video_id"])).combine_chunks()


def _differs(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    same = pc.or_(pc.fill_null(pc.equal(one, other), False), pc.and_(pc.is_null(one), pc.is_null(other)))
    return ~same.to_numpy()
