"""Actions with something in the hands. Knows nothing of clips: each draws one moment where the painter stands."""

import math
from math import pi

from alt_ray.pocket import things
from alt_ray.pocket.acts_body import gait_pose
from alt_ray.pocket.figure import HIP_Y, SOLE_Y, Figure, Person, Pose
from alt_ray.pocket.painter import Painter, along, between
from alt_ray.pocket.take import FEET_FRONT, FEET_SIDE, IDLE_FRONT, STANDING, Take, ease, hang, keyed, shoulder_of


def swinging_bat(p: Painter, who: Person, take: Take) -> None:
    m = take.moment
    turn = keyed(m, (0.0, 0.0), (0.35, -0.25), (0.62, 1.0), (0.75, 1.0), (1.0, 0.0))
    grip = along(shoulder_of(STANDING), 0.6 - 0.9 * turn, 0.24)
    angle = 2.2 - (2.6 + 0.5 * take.style) * take.amplitude * turn
    feet = (0.16, SOLE_Y), (-0.16, SOLE_Y)
    figure = Figure(who, Pose((0.0, HIP_Y - 0.04), (grip, (grip[0] + 0.02, grip[1] - 0.04)), feet, 0.1))
    figure.draw_far(p)
    things.baseball_bat(p, figure.hands[0], angle, take.colours[0])
    figure.draw_near(p)


def playing_tennis(p: Painter, who: Person, take: Take) -> None:
    m = take.moment
    turn = keyed(m, (0.0, 0.0), (0.3, -0.2), (0.6, 1.0), (1.0, 0.0))
    hand = hang(shoulder_of(STANDING), -0.9 + 2.6 * take.amplitude * turn, 0.95)
    feet = (0.16, SOLE_Y), (-0.14, SOLE_Y)
    figure = Figure(who, Pose((0.0, HIP_Y - 0.04), (hand, hang(shoulder_of(STANDING), 0.9)), feet, 0.15))
    figure.draw_far(p)
    things.tennis_racket(p, figure.hands[0], -1.9 + 2.9 * turn, take.colours[0])
    figure.draw_near(p)
    away = abs(m - 0.5) * 2
    things.ball(p, (0.55 + 0.65 * away, 0.6 + 0.5 * take.style * away * (1 - away) * 2), take.colours[1], radius=0.05)


def lifting_barbell(p: Painter, who: Person, take: Take) -> None:
    up = ease(0.5 - 0.5 * take.wave(0.25))
    _lift(p, who, take, up, half=0.26, things_below=0.15)


def lifting_box(p: Painter, who: Person, take: Take) -> None:
    up = 0.45 + 0.55 * ease(0.5 - 0.5 * take.wave(0.25))
    _lift(p, who, take, up, half=0.17, things_below=0.2)


def _lift(p: Painter, who: Person, take: Take, up: float, half: float, things_below: float) -> None:
    y = things_below + (1.12 - things_below) * up
    crouch = 0.24 * take.amplitude * max(0.0, 1 - 2.2 * up)
    pose = Pose((0.0, HIP_Y - crouch), ((half, y), (-half, y)), ((0.13, SOLE_Y), (-0.13, SOLE_Y)), view="front")
    figure = Figure(who, pose)
    figure.draw_far(p)
    y = figure.hands[0][1]
    if half > 0.2:
        things.barbell(p, (0.0, y), take.colours[0])
    else:
        things.box(p, (-0.15, y - 0.06), 0.3, take.colours[0])
    figure.draw_near(p)


def playing_guitar(p: Painter, who: Person, take: Take) -> None:
    middle, angle = (-0.04, 0.57), 0.35 + 0.15 * take.style + 0.04 * take.wave(speed=0.25)
    fret = along(middle, angle, 0.27 + 0.07 * take.wave(speed=0.3))
    strum = (middle[0] - 0.03, middle[1] + 0.02 + 0.085 * take.amplitude * take.wave())
    hip = (0.015 * take.wave(speed=0.5), HIP_Y)
    figure = Figure(who, Pose(hip, (fret, strum), FEET_FRONT, view="front", nod=0.1 * take.wave(speed=0.5)))
    figure.draw_far(p)
    things.guitar(p, middle, angle, take.colours[0])
    figure.draw_near(p)


def playing_drums(p: Painter, who: Person, take: Take) -> None:
    hip = (-0.3, 0.36)
    p = p.at(-0.05)
    things.drum(p, (-0.3, 0.3), 0.13, 0.06, take.colours[1])
    figure = Figure(who, Pose(hip, ((0.0, 0.5), (0.0, 0.5)), ((0.02, SOLE_Y), (-0.06, SOLE_Y)), 0.1))
    strokes = [max(0.0, take.wave(shift)) * 0.2 * take.amplitude for shift in (0.0, 0.5)]
    hands = (-0.02, 0.52 + strokes[0]), (0.04, 0.5 + strokes[1])
    figure = Figure(who, Pose(hip, hands, ((0.02, SOLE_Y), (-0.06, SOLE_Y)), 0.1))
    figure.draw_far(p)
    things.drum(p, (0.46, 0.56), 0.15, 0.16, take.colours[0])
    things.drum(p, (0.14, 0.42), 0.19, 0.24, take.colours[0])
    for hand, stroke in zip(figure.hands, strokes, strict=True):
        things.drumstick(p, hand, -0.35 + 4.0 * stroke)
    figure.draw_near(p)


def hammering(p: Painter, who: Person, take: Take, bench: int) -> None:
    up = keyed(take.moment, (0.0, 0.0), (0.55, 1.0), (0.65, 1.0), (0.85, 0.0)) * take.amplitude
    p.box(bench, (112, 84, 58), 0.16, 0.0, 0.62, 0.3)
    p.box(bench, (146, 112, 80), 0.12, 0.3, 0.66, 0.36)
    hip, lean = (-0.12, HIP_Y - 0.04), 0.3 - 0.2 * up
    hand = along(shoulder_of(hip, lean), -0.75 + 1.9 * up, 0.35)
    figure = Figure(who, Pose(hip, (hand, (0.3, 0.4)), ((0.05, SOLE_Y), (-0.2, SOLE_Y)), lean))
    figure.draw_far(p)
    things.hammer(p, figure.hands[0], -0.1 + 1.7 * up, take.colours[0])
    figure.draw_near(p)


def flying_kite(p: Painter, who: Person, take: Take) -> None:
    p = p.at(-0.35)
    kite = (0.75 + 0.14 * take.wave(), 1.35 + 0.12 * take.amplitude * take.wave(0.1, 2.0))
    hands = (0.24, 0.88 + 0.05 * take.wave(0.2)), (0.2, 0.8 - 0.05 * take.wave(0.2))
    figure = Figure(who, Pose((-0.02, HIP_Y), hands, ((0.12, SOLE_Y), (-0.1, SOLE_Y)), -0.15, nod=-0.25))
    figure.draw_far(p)
    things.kite_string(p, figure.hands[0], kite)
    things.kite(p, kite, 1.2 + 0.35 * take.wave(0.25), take.colours)
    figure.draw_near(p)


def running_with_kite(p: Painter, who: Person, take: Take) -> None:
    p = p.at(0.35)
    kite = (-0.8 + 0.06 * take.wave(speed=0.4), 1.12 + 0.1 * take.amplitude * take.wave(speed=0.5))
    figure = Figure(who, gait_pose(take, running=True, hands=((-0.2, 0.95), None)))
    figure.draw_far(p)
    things.kite_string(p, figure.hands[0], kite)
    things.kite(p, kite, 1.9 + 0.2 * take.wave(speed=0.5), take.colours)
    figure.draw_near(p)


def picking_up(p: Painter, who: Person, take: Take) -> None:
    u = take.progress
    bend = keyed(u, (0.0, 0.0), (0.38, 1.0), (0.45, 1.0), (1.0, 0.0))
    raised = keyed(u, (0.0, 0.0), (0.45, 0.0), (1.0, 1.0))
    side = 0.28
    hip = (-0.16 * bend, HIP_Y - 0.16 * take.amplitude * bend)
    lean = 1.05 * bend
    corner = (0.16 - 0.02 * raised, 0.42 * raised)
    shoulder = shoulder_of(hip, lean)
    hold = (corner[0] + 0.08, corner[1] + 0.1)
    reach = keyed(u, (0.0, 0.0), (0.38, 1.0))
    hand = between(hang(shoulder, 0.15), hold, reach)
    figure = Figure(who, Pose(hip, (hand, (hand[0] + 0.04, hand[1] + 0.02)), ((0.04, SOLE_Y), (-0.06, SOLE_Y)), lean))
    figure.draw_far(p)
    things.box(p, corner, side, take.colours[0])
    figure.draw_near(p)


def opening_umbrella(p: Painter, who: Person, take: Take) -> None:
    openness = take.progress
    hand = (0.16, 0.62 + 0.1 * openness)
    angle = pi / 2 - 0.5 + 0.4 * openness
    slider = along(hand, angle, 0.1 + 0.2 * openness)
    figure = Figure(
        who, Pose(STANDING, (hand, slider), FEET_SIDE if take.style < 0.5 else ((0.08, SOLE_Y), (-0.02, SOLE_Y)))
    )
    figure.draw_far(p)
    things.umbrella(p, figure.hands[0], angle, openness, take.colours)
    figure.draw_near(p)


def walking_with_umbrella(p: Painter, who: Person, take: Take) -> None:
    figure = Figure(who, gait_pose(take, hands=((0.13, 0.68), None)))
    figure.draw_far(p)
    things.umbrella(p, figure.hands[0], pi / 2 + 0.1 + 0.04 * take.wave(), 1.0, take.colours)
    figure.draw_near(p)


def carrying_ladder(p: Painter, who: Person, take: Take) -> None:
    figure = Figure(who, gait_pose(take, hands=((0.17, 0.7), None)))
    figure.draw_far(p)
    bob = 0.01 * take.wave(speed=2.0)
    things.ladder(p, (-0.66, 0.72 + bob), 0.04 + 0.02 * take.wave(), 1.32, take.colours[0], half=0.1)
    figure.draw_near(p)


def drinking(p: Painter, who: Person, take: Take) -> None:
    up = keyed(take.moment, (0.05, 0.0), (0.35, 1.0), (0.7, 1.0), (0.98, 0.0))
    nod = -0.35 * up * take.amplitude
    mouth = (0.15 + 0.5 * nod * 0.2, 0.85)
    hand = between((0.2, 0.55), mouth, up)
    figure = Figure(who, Pose(STANDING, (hand, hang(shoulder_of(STANDING), 0.1)), FEET_SIDE, nod=nod))
    figure.draw_far(p)
    x, y = figure.hands[0]
    things.cup(p, (x + 0.04, y + 0.03), 0.9 * up, take.colours[0])
    figure.draw_near(p)


def sweeping(p: Painter, who: Person, take: Take) -> None:
    foot = (0.36 + 0.17 * take.amplitude * take.wave(), 0.0)
    hip, lean = (-0.1, HIP_Y - 0.02), 0.3 + 0.06 * take.wave()
    top = (0.02 + 0.04 * take.wave(), 0.85)
    angle = math.atan2(top[1] - foot[1], top[0] - foot[0])
    hands = along(foot, angle, 0.55), along(foot, angle, 0.78)
    figure = Figure(who, Pose(hip, hands, ((0.06, SOLE_Y), (-0.18, SOLE_Y)), lean))
    figure.draw_far(p)
    things.broom(p, foot, angle, take.colours[0])
    figure.draw_near(p)


def hula_hoop(p: Painter, who: Person, take: Take) -> None:
    side, depth = take.wave(), take.wave(0.25)
    hip = (0.045 * side, HIP_Y)
    centre = (0.07 * take.amplitude * side, 0.57 + 0.02 * depth)
    radii, tilt = (0.32, 0.1), 0.16 * depth
    hands = ((0.3, 0.9), (-0.3, 0.9)) if take.style < 0.5 else ((0.36, 0.74), (-0.36, 0.74))
    things.hula_hoop_half(p, centre, radii, tilt, take.colours[0], front=False)
    figure = Figure(who, Pose(hip, hands, ((0.11, SOLE_Y), (-0.11, SOLE_Y)), view="front"))
    figure.draw(p)
    things.hula_hoop_half(p, centre, radii, tilt, take.colours[0], front=True)


def jumping_rope(p: Painter, who: Person, take: Take) -> None:
    turn = take.wave(0.25)  # 1 overhead, -1 under the feet
    jump = 0.13 * take.amplitude * max(0.0, -turn)
    hip = (0.0, HIP_Y - 0.02 + jump)
    y = IDLE_FRONT[0][1] + 0.06 + jump * 0.5
    hands = (0.3, y), (-0.3, y)
    feet = (0.06, SOLE_Y + jump), (-0.06, SOLE_Y + jump)
    figure = Figure(who, Pose(hip, hands, feet, view="front"))
    far_end = 1.16 if turn > 0 else 0.01
    middle = y + (far_end - y) * abs(turn)
    curve = [
        (0.34 * math.cos(a) * (1 + 0.35 * math.sin(a)), y + (middle - y) * math.sin(a))
        for a in (pi * k / 10 for k in range(11))
    ]
    is_behind = take.wave() > 0
    if is_behind:
        things.rope(p, curve, take.colours[0])
    figure.draw(p)
    if not is_behind:
        things.rope(p, curve, take.colours[0])


def pulling_rope(p: Painter, who: Person, take: Take) -> None:
    hip, lean = (-0.22 - 0.03 * take.wave(), HIP_Y - 0.12), -0.5 - 0.08 * take.amplitude * take.wave()
    shoulder = shoulder_of(hip, lean)
    y = shoulder[1] - 0.08
    near, far = (shoulder[0] + 0.22 + 0.1 * take.wave(shift) for shift in (0.0, 0.5))
    figure = Figure(who, Pose(hip, ((near, y), (far + 0.04, y)), ((0.12, SOLE_Y), (-0.02, SOLE_Y)), lean))
    figure.draw_far(p)
    things.rope(
        p, [(shoulder[0] - 0.05, 0.25), (shoulder[0] + 0.05, y - 0.05), (near, y), (2.5, y + 0.02)], take.colours[0]
    )
    figure.draw_near(p)
