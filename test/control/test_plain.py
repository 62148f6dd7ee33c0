"""The fast curve, plan and safety filter give what the plain ones do."""

import numpy as np
import pytest
from support import plain
from support.arms import random_robot

from maskact_ros.control.curves import ChunkCurve, Moment
from maskact_ros.control.plan import Plan
from maskact_ros.control.safety import SafetyFilter
from maskact_ros.core.chunk import Chunk

STAMP_NS, POINT_NS = 1_800_000_000 * 10**9, 33_333_333


def same(fast, plain_one):
    np.testing.assert_allclose(fast, plain_one, rtol=1e-12, atol=1e-12)


def a_chunk(random, joints, points, stamp_ns=STAMP_NS):
    return Chunk(stamp_ns, POINT_NS, random.normal(size=(points, joints)))


@pytest.mark.parametrize("points", [1, 2, 3, 60])
def test_the_curve_is_the_plain_one_before_between_at_and_beyond_its_points(points):
    random = np.random.default_rng(points)
    grippers = np.array([False, True, False, True])
    chunk = a_chunk(random, 4, points)
    curve = ChunkCurve(chunk, grippers)
    places = [*range(-2, points + 2), *random.uniform(-2, points + 20, size=500)]
    for now_ns in (STAMP_NS + round((place + 1) * POINT_NS) for place in places):
        same(curve.sample(Moment(now_ns, 0)), plain.curve(chunk, grippers, now_ns))


@pytest.mark.parametrize("seed", range(5))
def test_hand_overs_are_the_plain_ones(seed):
    random = np.random.default_rng(seed)
    arm = random_robot(random)
    grippers = random.random(len(arm.joints)) < 0.3
    chunks = [a_chunk(random, len(arm.joints), 40, STAMP_NS + i * 50_000_000) for i in range(4)]
    plan = Plan(ChunkCurve(chunks[0], grippers), grippers)
    blends = []
    for chunk in chunks[1:]:
        began = Moment(chunk.stamp_ns + 20_000_000, chunk.stamp_ns)
        plan.hand_over(ChunkCurve(chunk, grippers), began, 0.2, arm.limits)
        blends.append((chunk, began.steady_ns, plan._layers[-1].blend_ns))
    for ahead_ns in range(0, 1_000_000_000, 7_000_000):
        at = Moment(STAMP_NS + 20_000_000 + ahead_ns, STAMP_NS + ahead_ns)
        expected = plain.curve(chunks[0], grippers, at.now_ns)
        for chunk, began_ns, blend_ns in blends:
            newer = plain.curve(chunk, grippers, at.now_ns)
            expected = plain.blend(expected, newer, (at.steady_ns - began_ns) / blend_ns, grippers)
        same(plan.sample(at), expected)


@pytest.mark.parametrize("seed", range(20))
def test_the_filter_is_the_plain_one_for_targets_that_jump_run_and_lie_beyond_the_limits(seed):
    random = np.random.default_rng(seed)
    arm = random_robot(random)
    period_s = 1.0 / random.choice([10, 100, 500, 1000])
    target = random.normal(size=len(arm.joints))
    fast = SafetyFilter(arm.limits, period_s)
    fast.start(target)
    slow = plain.Filter(arm.limits, period_s, target)
    for _ in range(300):
        # From the same state each time: rounding that decides about a kick more or less must not add up.
        slow.position, slow.velocity = fast.position.copy(), fast.velocity.copy()
        previous, what = target, random.random()
        if what < 0.05:
            target = random.normal(size=len(target)) * random.choice([0.1, 1.0, 1e6])
        else:
            target = target + random.normal(size=len(target)) * arm.velocity * period_s
        if what < 0.9:
            same(fast.follow(target, previous), slow.follow(target, previous))
        else:
            same(fast.brake(), slow.brake())
        same(fast.velocity * period_s, slow.velocity * period_s)
