"""CLIP's loss where it is known which captions are true of which pictures, also of those that they weren't written for. Knows
nothing of how pictures and captions are drawn or embedded.

B pictures, M pictures and parts of them, C captions.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from alt_ray.pocket.vocabulary import BODY_PARTS, MOTIONS, OBJECTS, SCENES, SEEN_ACTIONS


def contrastive_loss(
    logits_MC: Tensor, is_true_MC: Tensor, is_known_MC: Tensor, num_pictures: int | None = None
) -> Tensor:
    """CLIP's loss, in which a true caption of a picture competes only with captions known to be false of it, and the reverse.

    Without that a caption such as "a photo of a head" would be taught to be false of nearly every other picture of a batch.
    The first B rows are pictures, others parts of them. The first B columns are the pictures' own captions, the next ones one
    caption of each fact (FACTS), any others rivals. A picture is asked for its own caption; pictures and parts, kind by kind,
    for all facts that are true of them; a caption for all pictures and parts of which it is true.
    """
    B = len(logits_MC) if num_pictures is None else num_pictures
    is_false_MC = ~is_true_MC & is_known_MC
    of_row_MC = _against_false(logits_MC, is_false_MC)
    own = of_row_MC[:B, :B].diagonal().mean()
    kinds = [
        _mean_where(of_row_MC[:, columns], is_true_MC[:, columns])
        for columns in _columns_of_kinds(B)
        if columns.start < logits_MC.shape[1]
    ]
    facts = torch.stack(kinds).mean() if kinds else own
    of_caption = _mean_where(_against_false(logits_MC.T, is_false_MC.T), is_true_MC.T)
    return (own + facts + 2 * of_caption) / 4


def _columns_of_kinds(first: int) -> list[slice]:
    counts = [len(names) for names in (BODY_PARTS, OBJECTS, SCENES, MOTIONS, SEEN_ACTIONS)]
    ends = list(itertools.accumulate(counts, initial=first))
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _mean_where(losses: Tensor, is_true: Tensor) -> Tensor:
    """Return the mean over the rows that have any true pair of the mean over the row's true pairs."""
    count = is_true.sum(1)
    per_row = (losses * is_true).sum(1) / count.clamp(min=1)
    return per_row.sum() / (count > 0).sum().clamp(min=1)


def _against_false(logits: Tensor, is_false: Tensor) -> Tensor:
    """Return for each pair the cross-entropy of it against the false ones of its row."""
    false = torch.logsumexp(logits.masked_fill(~is_false, -1e4), 1, keepdim=True)
    return F.softplus(false - logits)
