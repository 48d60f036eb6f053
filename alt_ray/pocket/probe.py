"""What the pocket's CLIP knows of single frames, zero-shot, on clips that no training saw. Knows nothing of training or regions.

N pictures, D embedding dim.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alt_ray.models.encoder import RegionEncoder
from alt_ray.pocket.captions import with_article
from alt_ray.pocket.plan import plan_clip
from alt_ray.pocket.tasks import HELD_OUT_SEED, TEMPLATE
from alt_ray.pocket.vocabulary import BODY_PARTS, OBJECTS, SCENES, SEEN_ACTIONS, UNSEEN_ACTIONS
from alt_ray.pocket.world import draw_close_up, draw_frame_and_mask


def zero_shot(encoder: RegionEncoder, *, per_action: int = 20, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Return top-1 shares over held-out frames: seen_action, unseen_action, object, scene, body_part, each also as chance_*.

    Objects and body parts are asked of close-ups of them, actions and scenes of whole frames.
    """
    frames: dict[str, list[np.ndarray]] = {
        name: [] for name in ("seen_action", "unseen_action", "scene", "object", "body_part")
    }
    truths: dict[str, list[int]] = {name: [] for name in frames}
    rng = np.random.default_rng(seed)
    size_px = encoder.image_size
    for kind, actions in (("seen_action", SEEN_ACTIONS), ("unseen_action", UNSEEN_ACTIONS)):
        for i in range(per_action * len(actions)):
            plan = plan_clip(seed, i, actions=[actions[i % len(actions)]])
            frame = int(rng.integers(plan.num_frames))
            picture, _ = draw_frame_and_mask(plan, frame, size_px)
            frames[kind].append(picture)
            truths[kind].append(actions.index(plan.action))
            frames["scene"].append(picture)
            truths["scene"].append(SCENES.index(plan.scene))
            for name, choices, all_ in (("object", plan.truth.objects, OBJECTS), ("body_part", BODY_PARTS, BODY_PARTS)):
                if not choices:
                    continue
                entity = choices[rng.integers(len(choices))]
                drawn = draw_close_up(plan, frame, entity, size_px, choice=rng.random())
                if drawn is not None:
                    frames[name].append(drawn[0])
                    truths[name].append(all_.index(entity))
    texts = {
        "seen_action": [TEMPLATE.format(name) for name in SEEN_ACTIONS],
        "unseen_action": [TEMPLATE.format(name) for name in UNSEEN_ACTIONS],
        "scene": [f"a photo of the {name}" for name in SCENES],
        "object": [f"a photo of {with_article(name)}" for name in OBJECTS],
        "body_part": [f"a photo of {with_article(name)}" for name in BODY_PARTS],
    }
    found = {}
    for name, pictures in frames.items():
        embeddings_ND = F.normalize(_pooled(encoder, pictures), dim=-1)
        guess_N = (embeddings_ND @ encoder.encode_text(texts[name]).T).argmax(-1)
        found[name] = float((guess_N == torch.tensor(truths[name])).float().mean())
        found[f"chance_{name}"] = 1 / len(texts[name])
    return found


@torch.no_grad()
def _pooled(encoder: RegionEncoder, pictures: list[np.ndarray]) -> Tensor:
    batches = torch.from_numpy(np.stack(pictures)).split(256)
    return torch.cat([encoder.encode_frames(encoder.normalise(batch)).pooled.float() for batch in batches])
