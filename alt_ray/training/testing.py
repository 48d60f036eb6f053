"""What a classifier says of stored clips: probabilities, averaged over views. Knows nothing of how it was trained.

N clips, V views, R rows read (clips times views), C labels.
"""

import numpy as np
from torch import nn

from alt_ray.evaluation.metrics import average_views
from alt_ray.features.loader import BatchLoader, Share
from alt_ray.features.store import FeatureStore
from alt_ray.models.training import predict
from alt_ray.training.place import Place

BATCH_VIEWS = 64


def scores_of(
    classifier: nn.Module,
    store: FeatureStore,
    first_rows: np.ndarray,
    num_labels: int,
    place: Place,
    batch_views: int = BATCH_VIEWS,
) -> np.ndarray | None:
    """Return the probabilities [N, C] of the clips whose view 0 stands at `first_rows`, on rank 0; None elsewhere."""
    share = Share(place.rank, place.world_size)
    own = np.arange(len(first_rows))[share.rank :: share.world_size]
    views = int(store.record.sampling["views"])
    scores_RC = np.zeros((0, num_labels), np.float32)
    if len(own):
        loader = BatchLoader(
            store,
            first_rows,
            np.zeros(len(first_rows), np.int64),
            batch_clips=max(batch_views, share.world_size) * share.world_size,
            share=share,
            pin=place.device.startswith("cuda"),
        )
        scores_RC = predict(classifier, loader.in_order())[0].softmax(-1).numpy()
    parts = place.gather((own.repeat(views), scores_RC))
    if place.rank:
        return None
    index_R = np.concatenate([index for index, _ in parts])
    return average_views(np.concatenate([scores for _, scores in parts]), index_R, len(first_rows))
