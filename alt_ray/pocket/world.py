"""Draw a planned clip: its frames, and for each pixel the entity that covers it. Knows nothing of files.

    plan = plan_clip(seed=0, index=7)
    clip = draw_clip(plan)              frames [T, H, W, 3] and masks [T, H, W] of ENTITIES' indices, both uint8
    picture = draw_frame(plan, 3)       the same as clip.frames_THW3[3], without drawing the others

Shapes: T frames, H = W pixels a side.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from alt_ray.errors import UsageError
from alt_ray.pocket.acts import act_of
from alt_ray.pocket.acts_body import gait_pose
from alt_ray.pocket.figure import HIP_Y, Figure, Pose, draw_person
from alt_ray.pocket.painter import Canvas, Painter
from alt_ray.pocket.plan import ClipPlan, ClipTruth, Distractor
from alt_ray.pocket.scenes import draw_scene
from alt_ray.pocket.take import FEET_FRONT, IDLE_FRONT, Take
from alt_ray.pocket.things import AT_REST
from alt_ray.pocket.vocabulary import ENTITY_INDEX

DEFAULT_SIZE_PX = 64
_NOISE_SIDE = 512
_person = lru_cache(maxsize=4096)(draw_person)


@dataclass(frozen=True)
class Clip:
    """A drawn clip. `masks_THW` holds indices into vocabulary.ENTITIES."""

    frames_THW3: np.ndarray
    masks_THW: np.ndarray
    truth: ClipTruth


@dataclass(frozen=True)
class View:
    """A close-up: its middle is at (x, y) of the whole picture, in shares of its side."""

    x: float = 0.5
    y: float = 0.5
    magnification: float = 1.0


_WHOLE = View()


def draw_clip(plan: ClipPlan, size_px: int = DEFAULT_SIZE_PX) -> Clip:
    """Draw all frames of a clip. Raises UsageError for a size below 16."""
    drawn = [draw_frame_and_mask(plan, frame, size_px) for frame in range(plan.num_frames)]
    return Clip(np.stack([picture for picture, _ in drawn]), np.stack([mask for _, mask in drawn]), plan.truth)


def draw_frame(plan: ClipPlan, frame: int, size_px: int = DEFAULT_SIZE_PX) -> np.ndarray:
    """Draw one frame [H, W, 3], uint8."""
    return _picture(plan, frame, _paint(plan, frame, size_px, _WHOLE))


def draw_frame_and_mask(plan: ClipPlan, frame: int, size_px: int = DEFAULT_SIZE_PX) -> tuple[np.ndarray, np.ndarray]:
    """Draw one frame [H, W, 3] and its mask [H, W], both uint8."""
    canvas = _paint(plan, frame, size_px, _WHOLE)
    return _picture(plan, frame, canvas), _mask(plan, canvas)


def draw_close_up(
    plan: ClipPlan,
    frame: int,
    entity: str,
    size_px: int = DEFAULT_SIZE_PX,
    *,
    magnification: float = 2.5,
    choice: float = 0.5,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw a frame and its mask around a pixel that shows `entity`; None if no pixel does. `choice`, 0 .. 1, says which pixel."""
    mask = _paint(plan, frame, size_px, _WHOLE).mask()
    ys, xs = np.nonzero(mask == ENTITY_INDEX[entity])
    if not len(ys):
        return None
    k = min(int(choice * len(ys)), len(ys) - 1)
    canvas = _paint(plan, frame, size_px, View((xs[k] + 0.5) / size_px, (ys[k] + 0.5) / size_px, magnification))
    return _picture(plan, frame, canvas), _mask(plan, canvas)


def _picture(plan: ClipPlan, frame: int, canvas: Canvas) -> np.ndarray:
    light = np.array(plan.light, np.float32) / 128

    def tint(colours: np.ndarray) -> np.ndarray:
        return ((colours - 128) * plan.contrast + 128) * light

    picture = canvas.picture(tint)
    if plan.mirrored:
        picture = picture[:, ::-1]
    if plan.noise < 0.5:
        return np.ascontiguousarray(picture)
    noisy = picture + plan.noise * _noise(plan.noise_key + 7919 * frame, canvas.size_px)
    return noisy.clip(0, 255).astype(np.uint8)


def _mask(plan: ClipPlan, canvas: Canvas) -> np.ndarray:
    mask = canvas.mask()
    return np.ascontiguousarray(mask[:, ::-1]) if plan.mirrored else mask


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3), np.float32)


def _noise(key: int, size_px: int) -> np.ndarray:
    """Cut a piece out of one stored sheet of noise: fresh noise would take as long as drawing the frame."""
    top, left = key * 613 % _NOISE_SIDE, key * 1009 % _NOISE_SIDE
    tile = _noise_tile()
    if max(top, left) + size_px <= _NOISE_SIDE:
        return tile[top : top + size_px, left : left + size_px]
    rows, columns = (np.arange(start, start + size_px) % _NOISE_SIDE for start in (top, left))
    return tile[rows[:, None], columns]


def _paint(plan: ClipPlan, frame: int, size_px: int, view: View) -> Canvas:
    if size_px < 16:
        raise UsageError(f"frames of {size_px} pixels show nothing; expected 16 or more")
    if not 0 <= frame < plan.num_frames:
        raise UsageError(f"frame {frame} of a clip of {plan.num_frames}; expected 0 to {plan.num_frames - 1}")
    canvas = Canvas(size_px)
    actor, travelled = _camera(plan, frame, canvas.width_px, view, canvas)
    scene = actor.at(-travelled)
    # Things of the scene have their places relative to where the action is half-way.
    half_way = plan.kind.travel * plan.cycles((plan.num_frames - 1) / 2)
    middle = scene.at(half_way)
    draw_scene(scene, plan.scene, plan.look)
    _bystanders(plan, frame, middle)
    for distractor in plan.distractors:
        if not distractor.in_front:
            _rest(distractor, middle.at(distractor.x, 0.06, distractor.scale))
    take = Take(plan.cycles(frame), plan.progress(frame), plan.amplitude, plan.style, plan.colours)
    act_of(plan.action, plan.scene)(actor, _person(plan.person), take)
    for distractor in plan.distractors:
        if distractor.in_front:
            _rest(distractor, middle.at(distractor.x * 0.6, -0.12, distractor.scale))
    if plan.post_x is not None:
        middle.box(
            ENTITY_INDEX[plan.scene], plan.look.colour(4, 90, 80, 75), plan.post_x - 0.04, -1.0, plan.post_x + 0.04, 3.0
        )
    return canvas


def _camera(plan: ClipPlan, frame: int, width_px: int, view: View, canvas: Canvas) -> tuple[Painter, float]:
    """Return the painter at the actor's place, and how far the actor has come in the scene."""
    camera, kind = plan.camera, plan.kind
    t = plan.share_of_time(frame) - 0.5
    seconds = frame / plan.fps
    room_x, room_y = kind.room
    share = camera.fill / max(room_x, room_y) * (1 + camera.zoom * t)
    shake = [camera.jitter * math.sin(2 * math.pi * ((2.1 + k) * seconds + camera.phases[k])) for k in (0, 1)]
    drift = camera.drift * (plan.share_of_action(frame) - 0.5) if kind.travel else 0.0
    x = 0.5 + camera.offset_x + camera.pan_x * t + shake[0] + drift
    y = 0.5 + share * room_y * 0.5 + camera.offset_y + camera.pan_y * t + shake[1]
    x, y = ((place - at) * view.magnification + 0.5 for place, at in ((x, view.x), (y, view.y)))
    painter = Painter(canvas, share * width_px * view.magnification, x * width_px, y * width_px)
    return painter, kind.travel * plan.cycles(frame)


def _bystanders(plan: ClipPlan, frame: int, painter: Painter) -> None:
    seconds = frame / plan.fps
    for other in plan.bystanders:
        take = Take(other.phase + seconds, 0.0, 1.0, 0.5, plan.colours)
        if other.walks:
            pose, x = gait_pose(take), other.x + 0.35 * (seconds - plan.duration_s / 2)
        else:
            pose, x = Pose((0.0, HIP_Y), IDLE_FRONT, FEET_FRONT, view="front"), other.x
        Figure(_person(other.person), pose).draw(painter.at(x, 0.2 - 0.2 * other.scale, other.scale))


def _rest(distractor: Distractor, painter: Painter) -> None:
    AT_REST[distractor.name](painter, 0.0, distractor.colours)
