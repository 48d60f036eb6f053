"""Actions on wheels, in boats, on ladders, at boxes, and the list of all. Knows nothing of clips: each draws one moment."""

import math
from collections.abc import Callable
from functools import partial
from math import pi

from alt_ray.pocket import acts_body, acts_tools, things
from alt_ray.pocket.figure import HIP_Y, Figure, Person, Pose
from alt_ray.pocket.painter import Painter, along
from alt_ray.pocket.take import Take, ease, hang, keyed, shoulder_of, step
from alt_ray.pocket.vocabulary import ACTION_BY_NAME, ENTITY_INDEX


def riding_bicycle(p: Painter, who: Person, take: Take) -> None:
    turn = -2 * pi * take.cycles
    crank, hip = (-0.02, 0.25), (-0.14, 0.62)
    lean = 0.45 + 0.25 * take.style
    near, far = along(crank, turn, 0.09), along(crank, turn + pi, 0.09)
    feet = (near[0], near[1] + 0.03), (far[0], far[1] + 0.03)
    figure = Figure(who, Pose(hip, ((0.27, 0.66), (0.27, 0.66)), feet, lean, nod=-0.2))
    things.bicycle(p, 0.0, turn, take.colours[0])
    figure.draw(p)


def skateboarding(p: Painter, who: Person, take: Take) -> None:
    push = keyed(take.moment, (0.1, 0.0), (0.2, 1.0), (0.5, 1.0), (0.62, 0.0))
    swing = keyed(take.moment, (0.18, 1.0), (0.5, -1.0), (0.62, 0.0), (0.95, 0.0))
    hip = (-0.02, 0.12 + HIP_Y - 0.1 - 0.03 * push)
    lean = 0.2 + 0.15 * push
    shoulder = shoulder_of(hip, lean)
    wobble = 0.25 * take.amplitude * take.wave()
    hands = hang(shoulder, 1.25 + wobble), hang(shoulder, -1.25 + wobble)
    kicking = (-0.17 + (0.12 + 0.2 * swing) * push, (0.14 - 0.1 * push))
    things.skateboard(p, 0.0, take.colours[0])
    Figure(who, Pose(hip, hands, (kicking, (0.14, 0.14)), lean)).draw(p)


def paddling_kayak(p: Painter, who: Person, take: Take) -> None:
    bob = 0.012 * take.wave(0.3, 2.0)
    p = p.at(0.0, 0.12 + bob)
    hip, lean = (-0.1, 0.0), 0.1 + 0.12 * take.wave()
    turn = 0.75 * take.amplitude * take.wave()
    shoulder = shoulder_of(hip, lean)
    middle = (shoulder[0] + 0.24, shoulder[1] - 0.07)
    tilt = -0.12 + turn
    hands = along(middle, tilt, 0.15), along(middle, tilt, -0.15)
    figure = Figure(who, Pose(hip, hands, ((0.32, 0.0), (0.3, 0.0)), lean, knees=(1.0, 1.0)))
    figure.draw_far(p)
    things.kayak(p, 0.0, 0.04, take.colours[0])
    things.paddle(p, middle, tilt, take.colours[1])
    figure.draw_near(p)


def pushing_box(p: Painter, who: Person, take: Take) -> None:
    side = 0.4 + 0.1 * take.style
    p = p.at(-0.32)
    hip, lean = (-0.06, HIP_Y - 0.07 + 0.01 * take.wave(speed=2.0)), 0.55 * take.amplitude
    near, far = step(take.cycles, 0.125, 0.07), step(take.cycles + 0.5, 0.125, 0.07)
    feet = (near[0] - 0.16, near[1]), (far[0] - 0.16, far[1])
    x = shoulder_of(hip, lean)[0] + 0.25
    hands = (x, min(side - 0.04, 0.52)), (x, min(side - 0.0, 0.56))
    figure = Figure(who, Pose(hip, hands, feet, lean))
    things.box(p, (x + 0.01, 0.0), side, take.colours[0])
    figure.draw(p)


def climbing_ladder(p: Painter, who: Person, take: Take) -> None:
    rung, climbed = 0.16, 0.62 * take.progress
    slant = 0.06 * (take.style - 0.5)
    things.ladder(p, (0.0, 0.0), pi / 2 + slant, 1.72, take.colours[0], half=0.15, rung=rung)
    p = p.at(-slant * climbed)
    base = climbed + 0.08

    def grip(offset: float, phase: float) -> float:
        """A height that rises in steps of two rungs, resting on one for half of the time."""
        steps = (climbed + phase * rung) / (2 * rung)
        whole = math.floor(steps)
        return (whole + ease((steps - whole - 0.25) * 2)) * 2 * rung - phase * rung + offset

    hip = (0.012 * math.sin(climbed / rung * pi), base + HIP_Y - 0.06)
    hands = (0.12, grip(0.98, 0.0)), (-0.12, grip(0.98, 1.0))
    feet = (0.07, grip(0.13, 1.0)), (-0.07, grip(0.13, 0.0))
    Figure(who, Pose(hip, hands, feet, view="back")).draw(p)


Act = Callable[[Painter, Person, Take], None]

_ACTS: dict[str, Act] = {
    "walking": acts_body.walking,
    "running": acts_body.running,
    "waving": acts_body.waving,
    "doing jumping jacks": acts_body.jumping_jacks,
    "doing squats": acts_body.squats,
    "punching a punching bag": acts_body.punching_bag,
    "kicking a ball": acts_body.kicking_ball,
    "throwing a ball": acts_body.throwing_ball,
    "dribbling a ball": acts_body.dribbling,
    "swinging a baseball bat": acts_tools.swinging_bat,
    "lifting a barbell": acts_tools.lifting_barbell,
    "playing guitar": acts_tools.playing_guitar,
    "riding a bicycle": riding_bicycle,
    "jumping rope": acts_tools.jumping_rope,
    "skateboarding": skateboarding,
    "playing drums": acts_tools.playing_drums,
    "flying a kite": acts_tools.flying_kite,
    "pushing a box": pushing_box,
    "picking up a box": acts_tools.picking_up,
    "climbing up a ladder": climbing_ladder,
    "opening an umbrella": acts_tools.opening_umbrella,
    "sitting down on a chair": acts_body.sitting_down,
    "paddling a kayak": paddling_kayak,
    "drinking from a cup": acts_tools.drinking,
    "sweeping with a broom": acts_tools.sweeping,
    "spinning a hula hoop": acts_tools.hula_hoop,
    "playing tennis": acts_tools.playing_tennis,
    "jumping on a trampoline": acts_body.trampoline,
    "lifting a box": acts_tools.lifting_box,
    "jumping over a box": acts_body.jumping_over_box,
    "kicking a punching bag": acts_body.kicking_bag,
    "walking with an umbrella": acts_tools.walking_with_umbrella,
    "carrying a ladder": acts_tools.carrying_ladder,
    "heading a ball": acts_body.heading_ball,
    "pulling a rope": acts_tools.pulling_rope,
    "running with a kite": acts_tools.running_with_kite,
}


def act_of(action: str, scene: str) -> Act:
    """Return what draws an action. One that is another played backwards is drawn as that one: time runs backwards for it."""
    if action == "hammering":  # on a bench, which is a piece of the scene
        return partial(acts_tools.hammering, bench=ENTITY_INDEX[scene])
    return _ACTS[ACTION_BY_NAME[action].reverse_of or action]
