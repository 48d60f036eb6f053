"""Actions of the body alone, with a ball, or at a bag. Knows nothing of clips: each draws one moment where the painter stands."""

import math
from math import pi

from alt_ray.pocket import things
from alt_ray.pocket.figure import HIP_Y, SOLE_Y, Figure, Person, Pose
from alt_ray.pocket.painter import Painter, Point
from alt_ray.pocket.take import FEET_FRONT, FEET_SIDE, IDLE_FRONT, Take, ease, hang, keyed, shoulder_of, step


def gait_pose(
    take: Take, *, running: bool = False, hands: tuple[Point | None, Point | None] = (None, None), lean: float = 0.0
) -> Pose:
    """A walking or running body; hands that are None swing with it."""
    stride, lift, swing = (0.27, 0.24, 1.0) if running else (0.19, 0.09, 0.5)
    lean += 0.25 if running else 0.05
    hip = (0.0, HIP_Y - 0.02 + (0.03 if running else 0.015) * take.wave(speed=2.0))
    feet = step(take.cycles, stride, lift), step(take.cycles + 0.5, stride, lift)
    shoulder = shoulder_of(hip, lean)
    angle = swing * take.amplitude * take.wave(0.75)
    bent = 0.62 if running else 0.93
    free = [hang(shoulder, side * angle + (0.5 if running else 0.1), bent) for side in (1, -1)]
    return Pose(hip, (hands[0] or free[0], hands[1] or free[1]), feet, lean)


def walking(p: Painter, who: Person, take: Take) -> None:
    Figure(who, gait_pose(take)).draw(p)


def running(p: Painter, who: Person, take: Take) -> None:
    Figure(who, gait_pose(take, running=True)).draw(p)


def waving(p: Painter, who: Person, take: Take) -> None:
    angle = pi - 0.45 + 0.45 * take.amplitude * take.wave()
    hand = hang((0.16, 0.8), angle, 0.75)
    other = hang((-0.16, 0.8), -angle, 0.75) if take.style > 0.75 else IDLE_FRONT[1]
    Figure(who, Pose((0.0, HIP_Y), (hand, other), FEET_FRONT, view="front")).draw(p)


def jumping_jacks(p: Painter, who: Person, take: Take) -> None:
    out = 0.5 - 0.5 * take.wave(0.25)
    jump = 0.1 * take.amplitude * abs(take.wave())
    spread = 0.07 + 0.2 * out
    angle = 0.3 + 2.5 * out
    hip = (0.0, HIP_Y - 0.05 * out + jump)
    shoulder = shoulder_of(hip)[1]
    hands = hang((0.1, shoulder), angle), hang((-0.1, shoulder), -angle)
    feet = (spread, SOLE_Y + jump), (-spread, SOLE_Y + jump)
    Figure(who, Pose(hip, hands, feet, view="front")).draw(p)


def squats(p: Painter, who: Person, take: Take) -> None:
    down = ease(0.5 - 0.5 * take.wave(0.25))
    hip = (-0.14 * down, HIP_Y - 0.25 * take.amplitude * down)
    lean = 0.6 * down
    shoulder = shoulder_of(hip, lean)
    hand = hang(shoulder, 0.15 + 1.4 * down)
    Figure(who, Pose(hip, (hand, hand), ((0.05, SOLE_Y), (-0.03, SOLE_Y)), lean)).draw(p)


def punching_bag(p: Painter, who: Person, take: Take) -> None:
    near, far = (max(0.0, take.wave(shift)) ** 2 for shift in (0.0, 0.5))
    things.punching_bag(p, (0.5, 0.98), 0.1 * max(near, far), take.colours[0])
    hip = (-0.06 + 0.05 * near, HIP_Y - 0.02)
    shoulder = shoulder_of(hip, 0.15)
    guard = shoulder[0] + 0.15, shoulder[1] + 0.04
    hands = tuple((guard[0] + 0.24 * punch, guard[1] - 0.02 * punch) for punch in (near, far))
    Figure(who, Pose(hip, (hands[0], hands[1]), ((0.1, SOLE_Y), (-0.17, SOLE_Y)), 0.15)).draw(p)


def kicking_bag(p: Painter, who: Person, take: Take) -> None:
    kick = keyed(take.moment, (0.1, 0.0), (0.4, 1.0), (0.55, 1.0), (0.85, 0.0))
    things.punching_bag(p, (0.52, 0.98), 0.1 * kick, take.colours[0])
    hip = (-0.08, HIP_Y)
    foot = (-0.02 + 0.42 * kick, SOLE_Y + 0.6 * take.amplitude * kick)
    shoulder = shoulder_of(hip, -0.35 * kick)
    hands = (shoulder[0] + 0.12, shoulder[1] - 0.06), (shoulder[0] - 0.1, shoulder[1] - 0.18)
    Figure(who, Pose(hip, hands, (foot, (-0.1, SOLE_Y)), -0.35 * kick, toes=(1.2 * kick, 0.0))).draw(p)


def kicking_ball(p: Painter, who: Person, take: Take) -> None:
    m = take.moment
    foot = keyed(m, (0.0, -0.05), (0.3, -0.32), (0.48, 0.3), (0.62, 0.42), (0.95, -0.05))
    height = keyed(m, (0.0, SOLE_Y), (0.3, 0.2), (0.46, 0.05), (0.6, 0.36 * take.amplitude), (0.95, SOLE_Y))
    x = 0.9 - (0.9 - 0.38) * m / 0.47 if m < 0.47 else 0.38 + 2.6 * (m - 0.47)
    y = 0.085 if m < 0.47 else 0.085 + 1.7 * take.style * (m - 0.47)
    things.ball(p, (x, y), take.colours[0], -x * 6)
    lean = keyed(m, (0.0, 0.0), (0.3, 0.2), (0.55, -0.2), (0.95, 0.0))
    shoulder = shoulder_of((0.0, HIP_Y), lean)
    hands = hang(shoulder, -foot * 1.8), hang(shoulder, foot * 1.8 + 0.3)
    Figure(who, Pose((0.0, HIP_Y), hands, ((foot, height), (-0.03, SOLE_Y)), lean, toes=(foot, 0.0))).draw(p)


def throwing_ball(p: Painter, who: Person, take: Take) -> None:
    m = take.moment
    angle = keyed(m, (0.0, 0.4), (0.38, -2.3), (0.42, -2.3), (0.62, -4.9), (0.75, -5.4), (1.0, -5.9))
    lean = keyed(m, (0.0, 0.0), (0.38, -0.25), (0.62, 0.3), (1.0, 0.0))
    front = keyed(m, (0.0, 0.08), (0.4, 0.22), (1.0, 0.08))
    shoulder = shoulder_of((0.0, HIP_Y), lean)
    hand = hang(shoulder, angle, 0.95)
    other = hang(shoulder, keyed(m, (0.0, 0.2), (0.38, 1.3), (0.7, -0.5), (1.0, 0.2)))
    figure = Figure(
        who, Pose((0.0, HIP_Y - 0.02), (hand, other), ((-0.12, SOLE_Y), (front, SOLE_Y)), lean, elbows=(1.0, -1.0))
    )
    figure.draw_far(p)
    released = m - 0.57
    at = figure.hands[0]
    if released > 0:
        at = 0.3 + 2.8 * released, 0.95 + (0.5 + 0.6 * take.style) * released - 1.4 * released * released
    elif math.cos(angle) < 0:
        at = at[0], at[1] + 0.05
    things.ball(p, at, take.colours[0], m * 4)
    figure.draw_near(p)


def dribbling(p: Painter, who: Person, take: Take) -> None:
    up = abs(math.cos(pi * take.cycles))
    y = 0.085 + 0.42 * up
    hand = (0.2, max(y + 0.1, 0.48))
    lean = 0.3
    shoulder = shoulder_of((-0.02, HIP_Y - 0.04), lean)
    figure = Figure(
        who, Pose((-0.04, HIP_Y - 0.05), (hand, hang(shoulder, 0.7)), ((0.08, SOLE_Y), (-0.14, SOLE_Y)), lean)
    )
    figure.draw_far(p)
    things.ball(p, (0.24, y), take.colours[0], take.cycles)
    figure.draw_near(p)


def heading_ball(p: Painter, who: Person, take: Take) -> None:
    m = take.moment
    jump = 0.2 * take.amplitude * max(0.0, math.sin(2 * pi * (m - 0.25))) if 0.25 < m < 0.75 else 0.0
    crouch = 0.08 * keyed(m, (0.0, 0.0), (0.2, 1.0), (0.3, 0.0), (0.72, 0.0), (0.82, 1.0), (1.0, 0.0))
    hip = (0.0, HIP_Y - crouch + jump)
    bend = -0.25 * (jump > 0.05)
    feet = (0.06, SOLE_Y + jump), (-0.06 - jump * 0.6, SOLE_Y + jump * 1.3)
    shoulder = shoulder_of(hip)
    hands = hang(shoulder, 0.9), hang(shoulder, -0.8)
    figure = Figure(who, Pose(hip, hands, feet, 0.05, nod=bend))
    away = abs(m - 0.5) * 2
    things.ball(p, (0.07 + 0.1 * away, 1.1 + 0.2 * take.amplitude + 0.32 * away * (2 - away)), take.colours[0], m * 5)
    figure.draw(p)


def jumping_over_box(p: Painter, who: Person, take: Take) -> None:
    m = take.moment
    x = 0.5 * (2 * m - 1)
    flight = min(1.0, max(0.0, (m - 0.2) / 0.6))
    y = 0.38 * take.amplitude * math.sin(pi * flight)
    things.box(p, (-0.14, 0.0), 0.28, take.colours[0])
    tuck = math.sin(pi * flight)
    hip = (x, HIP_Y - 0.06 + y)
    shoulder = shoulder_of(hip, 0.25)
    feet = (x + 0.12 * tuck + 0.04, SOLE_Y + y + 0.12 * tuck), (x - 0.2 * tuck - 0.05, SOLE_Y + y + 0.1 * tuck)
    Figure(who, Pose(hip, (hang(shoulder, 1.6 * tuck), hang(shoulder, -1.2 * tuck)), feet, 0.25)).draw(p)


def trampoline(p: Painter, who: Person, take: Take) -> None:
    flight = abs(math.sin(pi * take.cycles))
    height = 0.24 + 0.45 * take.amplitude * flight
    sag = 0.09 * max(0.0, 1 - 4 * flight)
    things.trampoline(p, 0.0, sag, take.colours[0])
    y = height - sag
    hip = (0.0, y + HIP_Y - 0.06 * (1 - flight))
    angle = 0.8 + 1.6 * flight
    shoulder = shoulder_of(hip)[1]
    hands = hang((0.1, shoulder), angle), hang((-0.1, shoulder), -angle)
    spread = 0.06 + 0.1 * take.style * flight
    Figure(who, Pose(hip, hands, ((spread, y + 0.03), (-spread, y + 0.03)), view="front")).draw(p)


def sitting_down(p: Painter, who: Person, take: Take) -> None:
    down = take.progress
    things.chair(p, -0.2, take.colours[0])
    hip = (0.02 - 0.2 * down, HIP_Y - 0.12 * down)
    lean = 0.65 * take.amplitude * math.sin(pi * down)
    shoulder = shoulder_of(hip, lean)
    hand = hang(shoulder, 0.1 + 0.7 * down, 0.8)
    Figure(
        who, Pose(hip, (hand, hand), FEET_SIDE if take.style < 0.5 else ((0.08, SOLE_Y), (0.02, SOLE_Y)), lean)
    ).draw(p)
