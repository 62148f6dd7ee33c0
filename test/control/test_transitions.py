"""The table of transitions: what it promises, that the follower executes it, and that the document prints it."""

import pytest
import yaml
from support.follower_rig import MS, Rig
from support.source_tree import ROOT

from maskact_ros.control import transitions
from maskact_ros.control.ladder import MOVING, FollowerSettings, FollowerState, Rung
from maskact_ros.control.transitions import ENABLED, TRANSITIONS, Event, as_markdown, step


def test_the_document_prints_the_table():
    document = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    assert as_markdown() in document, f"docs/safety.md is to hold this table:\n\n{as_markdown()}\n"


def test_enabled_means_in_the_table_what_it_means_in_the_state():
    assert set(ENABLED) == {rung for rung in Rung if FollowerState(rung).enabled}


def test_each_state_and_event_has_one_row():
    pairs = [(state, row.event) for row in TRANSITIONS for state in row.states]
    assert len(pairs) == len(set(pairs))
    assert {event for _, event in pairs} == set(Event)


def test_only_a_reset_leaves_a_fault_and_it_does_not_enable():
    rows = [row for row in TRANSITIONS if Rung.FAULT in row.states and row.next is not Rung.FAULT]
    assert [row.event for row in rows] == [Event.RESET]
    assert {rows[0].next, rows[0].silent}.isdisjoint(ENABLED)


def test_only_enabling_leads_from_a_state_that_is_not_enabled_to_one_that_is():
    rows = [row for row in TRANSITIONS if row.next in ENABLED and not set(row.states) <= set(ENABLED)]
    assert [row.event for row in rows] == [Event.ENABLE]


def test_only_a_chunk_to_follow_moves_the_arm():
    rows = [row for row in TRANSITIONS if row.next in MOVING]
    assert {row.event for row in rows} == {Event.FRESH, Event.STALE, Event.ORPHANED}


def test_motion_ends_by_a_new_epoch_by_the_users_wish_or_in_a_fault():
    for row in TRANSITIONS:
        if set(row.states) & set(MOVING) and row.next not in MOVING:
            assert row.new_epoch or row.next in (Rung.DISABLED, Rung.FAULT), row


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.event} to {row.next}")
def test_its_reason_is_made_of_what_was_found_and_of_settings(row):
    state = step(FollowerState(row.states[0]), row.event, sends=True, settings=FollowerSettings(), why="{elbow}")
    assert state is not None
    assert "{settings" not in state.reason
    assert ("{elbow}" in state.reason) == ("{why}" in row.reason)


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.event} to {row.next}")
def test_its_parameters_are_the_publishers(row):
    declared = yaml.safe_load((ROOT / "config/maskact.yaml").read_text(encoding="utf-8"))
    assert set(row.parameters) <= set(declared["/**/action_publisher"]["ros__parameters"])


def test_the_follower_goes_where_the_table_leads(monkeypatch):
    rig = Rig(hold_timeout_s=0.1).enabled_and_following()
    monkeypatch.delitem(transitions._ROWS, (Rung.HOLDING, Event.WAITED))
    rig.tick(500)
    assert rig.rung is Rung.HOLDING  # for ever, as the row that would end it is not there
    monkeypatch.undo()
    rig.tick(2)
    assert rig.rung is Rung.FAULT
    assert rig.reason.startswith("held for 0.1 s: ")


def test_an_event_without_a_row_changes_nothing():
    rig = Rig()
    before = rig.follower.state
    rig.follower.disable("not enabled anyway")
    rig.pass_time(10 * MS)
    assert rig.follower.state == before
