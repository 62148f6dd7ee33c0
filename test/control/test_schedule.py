"""A chunk is computed so early that it is there when the one before is used up, and no earlier."""

from itertools import pairwise

from maskact_ros.control.schedule import PlanSchedule

MS = 1_000_000
IMAGE_NS = 33 * MS


def planned_stamps(*, latency_ns: int, images: int, n_action_steps: int = 20, every_image: bool = False) -> list[int]:
    """The images (by number) that are planned from when computing a chunk takes `latency_ns`."""
    schedule = PlanSchedule(n_action_steps=n_action_steps, period_ns=50 * MS, every_image=every_image)
    planned, busy_until_ns = [], 0
    for i in range(images):
        stamp_ns = i * IMAGE_NS
        if stamp_ns < busy_until_ns:
            continue  # dropped: the planner was at work
        if schedule.wants(stamp_ns):
            planned.append(i)
            busy_until_ns = stamp_ns + latency_ns
            schedule.planned(stamp_ns, busy_until_ns)
    return planned


def test_the_next_chunk_is_there_in_time_and_from_the_last_image_that_allows_it():
    latency_ns, span_ns = 100 * MS, 20 * 50 * MS
    planned = planned_stamps(latency_ns=latency_ns, images=600)
    assert planned[0] == 0
    for before, after in pairwise(planned[1:]):
        used_up_ns = before * IMAGE_NS + span_ns
        assert after * IMAGE_NS + latency_ns <= used_up_ns
        assert (after + 1) * IMAGE_NS + latency_ns > used_up_ns - IMAGE_NS


def test_with_ensembling_every_image_is_planned_from():
    assert planned_stamps(latency_ns=10 * MS, images=50, every_image=True) == list(range(50))


def test_a_planner_slower_than_its_chunks_plans_always():
    schedule = PlanSchedule(n_action_steps=1, period_ns=50 * MS, every_image=False)
    for i in range(20):
        assert schedule.wants(i * IMAGE_NS)
        schedule.planned(i * IMAGE_NS, i * IMAGE_NS + 200 * MS)


def test_until_a_chunk_was_planned_every_image_is_wanted():
    schedule = PlanSchedule(n_action_steps=20, period_ns=50 * MS, every_image=False)
    assert all(schedule.wants(i * IMAGE_NS) for i in range(5))
    schedule.planned(4 * IMAGE_NS, 5 * IMAGE_NS)
    assert not schedule.wants(5 * IMAGE_NS)


def test_after_a_reset_the_next_image_is_planned_from():
    schedule = PlanSchedule(n_action_steps=20, period_ns=50 * MS, every_image=False)
    schedule.planned(0, 10 * MS)
    assert not schedule.wants(IMAGE_NS)
    schedule.reset()
    assert schedule.wants(2 * IMAGE_NS)


def test_a_clock_that_goes_back_begins_anew():
    schedule = PlanSchedule(n_action_steps=20, period_ns=50 * MS, every_image=False)
    assert schedule.wants(10_000 * MS)
    schedule.planned(10_000 * MS, 10_010 * MS)
    assert not schedule.wants(10_033 * MS)
    assert schedule.wants(50 * MS)


def test_other_settings_count_from_the_chunk_that_serves_now():
    schedule = PlanSchedule(n_action_steps=20, period_ns=50 * MS, every_image=False)
    assert schedule.wants(0)
    schedule.planned(0, 10 * MS)
    assert not schedule.wants(5 * IMAGE_NS)
    schedule.change(n_action_steps=2, every_image=False)
    assert schedule.wants(6 * IMAGE_NS)
    schedule.planned(6 * IMAGE_NS, 6 * IMAGE_NS + 10 * MS)
    schedule.change(n_action_steps=20, every_image=True)
    assert schedule.wants(7 * IMAGE_NS)
    schedule.change(n_action_steps=20, every_image=False)
    assert not schedule.wants(8 * IMAGE_NS)
