"""A feature store whose regions are read once and lie in memory, for many trainings on the same clips. No torch, no Ray."""

from collections.abc import Mapping, Sequence

import numpy as np

from alt_ray.features.store import FeatureStore

CHUNK_ROWS = 256


class HeldStore(FeatureStore):
    """As FeatureStore, and gives the same, but from `held`: the tensors of all rows of the index, as `hold` read them."""

    def __init__(self, uri: str, held: Mapping[str, np.ndarray]) -> None:
        super().__init__(uri)
        assert all(len(values) == self.rows.num_rows for values in held.values())
        self._held = held

    def read(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        wanted = np.asarray(rows, np.int64)
        return {name: self._held[name][wanted] for name in columns or self.record.tensors}


def hold(store: FeatureStore) -> dict[str, np.ndarray]:
    """Return the tensors of all rows. Raises FeatureError for a part that can't be read."""
    number = store.rows.num_rows
    found = {name: np.empty((number, *shape), dtype) for name, (dtype, shape) in store.record.tensors.items()}
    for start in range(0, number, CHUNK_ROWS):
        rows = np.arange(start, min(start + CHUNK_ROWS, number))
        for name, values in store.read(rows).items():
            found[name][rows] = values
    return found
