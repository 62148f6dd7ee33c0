"""`maskact monitor` shows what real nodes say, whatever comes; `maskact reset` passes the publisher's answer on."""

import io
import json
import signal
import sys

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rich.console import Console
from std_msgs.msg import String
from support.node_bench import LATCHED, NAMESPACE, RELIABLE

from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.nodes.ros.messages import state_to_message
from maskact_ros.tools.monitor_view import STAGES, Figures, NodeReport, Snapshot, as_json, as_table, as_text

MASKACT = [sys.executable, "-m", "maskact_ros.cli"]


def node(name="camera_encoder", *, values=(), message="ok", level=0, age_s=0.5, grown=()):
    values = {"state": "active", **dict(values)}
    return NodeReport(f"{NAMESPACE}/{name}", level, message, values, age_s, frozenset(grown))


def snapshot(*nodes, **fields):
    about = {"namespace": NAMESPACE, "domain_id": "42", "discovery_range": "LOCALHOST", "listened_s": 9.0}
    return Snapshot(nodes=nodes, **(about | fields))


def text(shown, width=160):
    return as_text(shown, width)


def coloured(shown):
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system="standard", highlight=False)
    console.print(as_table(shown))
    return console.file.getvalue()


def stage(name, ms=1.0):
    return {f"{name}_ms_{p}": f"{ms:.2f}" for p in ("p50", "p95", "p99")} | {f"{name}_total": "7"}


# The display, without ROS.


def test_each_value_is_shown_as_what_it_is():
    values = {"state": "active", "scheduler": "normal", "mask_confidence": "0.93", "frames_dropped": "3", "novel": "x"}
    values |= {"images_hz": "29.90", "images_total": "120", **stage("mask_head", 4.5), "control_rate_hz": "500"}
    figures = Figures.of(values)
    assert figures.rates_hz == {"images": 29.9}
    assert figures.stages_ms == {"mask_head": {"p50": 4.5, "p95": 4.5, "p99": 4.5}}
    assert figures.totals == {"images": 120, "mask_head": 7}
    assert figures.counts == {"frames_dropped": 3}
    assert figures.mask == {"mask_confidence": "0.93"}
    assert figures.settings == {"state": "active", "scheduler": "normal", "novel": "x", "control_rate_hz": "500"}
    shown = text(snapshot(node(values=values)))
    for word in ("images 29.9", "frames_dropped 3", "mask_confidence  0.93", "novel", "scheduler", "mask_head"):
        assert word.replace("  ", " ") in " ".join(shown.split()), shown


def test_stages_stand_in_the_order_in_which_an_image_passes_and_unknown_ones_at_the_end():
    encoder = node("camera_encoder", values=stage("zoom") | stage("encoder") | stage("image_age_at_receipt"))
    publisher = node("action_publisher", values=stage("command_lateness") | stage("image_to_command"))
    lines = text(snapshot(publisher, encoder)).splitlines()
    first_words = [line.split()[0] for line in lines if line]
    seen = [word for word in first_words if word in (*STAGES, "zoom")]
    assert seen == ["image_age_at_receipt", "encoder", "image_to_command", "command_lateness", "zoom"]


def test_the_first_line_says_what_the_publisher_says():
    state = FollowerState(Rung.FOLLOWING, 3, "following the plan")
    first = text(snapshot(node(), state=state)).splitlines()[0]
    assert first.split() == ["following", "enabled", "epoch", "3", "following", "the", "plan"]
    assert "\x1b[1;32m following" in coloured(snapshot(node(), state=state))
    assert "\x1b[1;37;41m fault" in coloured(snapshot(node(), state=FollowerState(Rung.FAULT, 3, "an arm that stuck")))


def test_the_state_of_a_publisher_that_is_lost_is_not_shown_as_the_present_one():
    publisher = node("action_publisher", values={"rung": "following"}, age_s=4.2)
    shown = snapshot(publisher, state=FollowerState(Rung.FOLLOWING, 3, "following the plan"))
    assert text(shown).startswith("who said this is lost:")
    assert "lost, 4 s" in text(shown)
    assert as_json(shown)["state_is_old"] is True
    assert as_json(shown)["nodes"][0]["lost"] is True


def test_a_count_that_grew_stands_out_and_one_that_did_not_does_not():
    shown = snapshot(node(values={"frames_dropped": "5", "frames_refused": "6"}, grown=["frames_dropped", "x_total"]))
    assert "\x1b[1;33mframes_dropped 5" in coloured(shown)
    assert "\x1b[1;33mframes_refused" not in coloured(shown)
    assert as_json(shown)["nodes"][0]["grown"] == ["frames_dropped"]


@pytest.mark.parametrize("hostile", ["[bold]not markup[/]", "[/]", "[link=x]y", "\x1b[2J", "a\nb\r\tc\0", "🤖" * 300])
def test_texts_of_others_are_neither_markup_nor_control_characters(hostile):
    state = FollowerState(Rung.HOLDING, 1, hostile)
    hostile_node = node(hostile, values={hostile: hostile, f"mask_{hostile}": hostile}, message=hostile, level=2)
    for shown in (
        text(snapshot(hostile_node, state=state), width=500),
        text(snapshot(state_problem=hostile, elsewhere=(hostile,)), width=500),
    ):
        assert all(c.isprintable() or c == "\n" for c in shown)
        assert hostile[:4].encode("unicode_escape").decode() in shown or hostile[:4] in shown
    json.dumps(as_json(snapshot(hostile_node, state=state)), allow_nan=False)


def test_a_number_that_is_none_is_shown_as_a_text_and_json_stays_json():
    values = {
        "images_hz": "nan",
        "images_total": "-1",
        "plan_ms_p50": "inf",
        "plan_ms_p95": "soon",
        "drops": "9" * 5000,
    }
    shown = snapshot(node(values=values))
    said = json.loads(json.dumps(as_json(shown), allow_nan=False))["nodes"][0]
    assert said["settings"] == {"state": "active"} | values
    assert "soon" in text(shown)


def test_nothing_heard_is_said_with_what_to_look_for():
    assert text(snapshot(listened_s=1.0)).splitlines()[-1] == "listening"
    hint = " ".join(text(snapshot(elsewhere=("/left/inference",))).split())
    for word in ("/maskact", "ROS_DOMAIN_ID (here 42)", "ROS_AUTOMATIC_DISCOVERY_RANGE (here LOCALHOST)"):
        assert word in hint
    assert "/left/inference" in hint
    assert snapshot().failed


@pytest.mark.parametrize(("level", "failed"), [(0, False), (1, False), (2, True), (3, False), (77, False)])
def test_only_an_error_is_a_failure_and_unknown_levels_are_shown(level, failed):
    shown = snapshot(node(level=level))
    assert shown.failed is failed
    assert as_json(shown)["nodes"][0]["level"] in text(shown)


@pytest.mark.parametrize("width", [20, 80, 400])
def test_it_fits_any_terminal(width):
    report = node(values=stage("encoder") | {"frames_dropped": "3", "scheduler": "normal " * 20}, message="long " * 50)
    assert max(map(len, text(snapshot(report), width).splitlines())) <= width


# Real processes.


def status(name, *, level=DiagnosticStatus.OK, message="ok", hardware_id="maskact", values=()):
    pairs = [KeyValue(key=key, value=value) for key, value in dict(values).items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)


class Crowd:
    """Whatever else speaks in the domain: statuses and states that the test wants to be said, four times a second."""

    def __init__(self, bench):
        self.statuses = []
        self._publisher = bench.probe.publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self._states = bench.probe.publisher(String, "state", LATCHED)
        bench.probe.every(0.25, self._say)

    def state(self, message):
        self._states.publish(message)

    def _say(self):
        self._publisher.publish(DiagnosticArray(status=[each() if callable(each) else each for each in self.statuses]))


@pytest.fixture
def crowd(bench):
    return Crowd(bench)


def monitored(program, code):
    """The one JSON object that a monitor printed."""
    assert program.wait() == code, program.output
    assert "Traceback" not in program.output
    (line,) = [line for line in program.output.splitlines() if line.startswith("{")]
    return json.loads(line)


def objects(program):
    return [json.loads(line) for line in program.output.splitlines() if line.startswith("{") and line.endswith("}")]


def once(bench, *arguments):
    return bench.run([*MASKACT, "monitor", "--once", "--json", *arguments])


def test_it_shows_what_a_real_node_says_once_and_ends(bench, crowd):
    drops = iter(range(1_000_000))
    crowd.statuses = [
        status("lidar", level=DiagnosticStatus.ERROR, hardware_id="a lidar"),
        status("/left/inference", level=DiagnosticStatus.ERROR),
        lambda: status(
            "/maskact/action_publisher", values={"rung": "holding", "drops": str(next(drops)), "misses": "4"}
        ),
    ]
    crowd.state(state_to_message(FollowerState(Rung.HOLDING, 7, "nothing to follow")))
    bench.start_active("sim_robot")
    for _ in range(5):  # it waits for two reports of a node; on a loaded machine they may come too late for that
        said = monitored(once(bench), code=0)
        if len(said["nodes"]) > 1:
            break
    assert said["state"] == {"rung": "holding", "epoch": 7, "enabled": True, "reason": "nothing to follow"}
    publisher, robot = said["nodes"]
    assert (publisher["name"], publisher["grown"]) == ("/maskact/action_publisher", ["drops"])
    assert (robot["name"], robot["level"], robot["lost"]) == ("/maskact/sim_robot", "ok", False)
    assert robot["settings"]["state"] == "active"
    assert robot["rates_hz"]["joint_states"] > 0
    assert robot["stages_ms"]["render"].keys() == {"p50", "p95", "p99"}
    assert said["elsewhere"] == ["/left/inference"]
    assert said["hint"] is None


@pytest.mark.extended
def test_an_error_of_a_node_of_ours_is_the_exit_code_and_the_text_shows_it(bench, crowd):
    crowd.statuses = [status("/maskact/inference", level=DiagnosticStatus.ERROR, message="no chunk: [bold] is not one")]
    program = bench.run([*MASKACT, "monitor", "--once"], COLUMNS="160")
    assert program.wait() == 1, program.output
    assert "no chunk: [bold] is not one" in program.output


@pytest.mark.extended
def test_of_another_namespace_it_hears_that_one(bench, crowd):
    crowd.statuses = [status("/left/inference"), status("/leftmost/inference", level=DiagnosticStatus.ERROR)]
    said = monitored(once(bench, "--namespace", "left/"), code=0)
    assert [each["name"] for each in said["nodes"]] == ["/left/inference"]
    assert said["elsewhere"] == ["/leftmost/inference"]


@pytest.mark.extended
@pytest.mark.parametrize("malformed", ["", "{" * 9999])  # test_messages has more
def test_a_malformed_state_is_shown_as_such(bench, crowd, malformed):
    crowd.statuses = [status("/maskact/inference")]
    crowd.state(String(data=malformed))
    said = monitored(once(bench), code=0)
    assert said["state"] is None
    assert said["state_problem"].startswith(f"the state is {malformed[:80]!r}")


@pytest.mark.extended
def test_nothing_heard_is_exit_code_1_with_a_hint(bench):
    said = monitored(once(bench), code=1)
    assert f"ROS_DOMAIN_ID (here {bench.domain.id})" in said["hint"]


@pytest.mark.extended
def test_live_it_sees_a_node_die_and_ctrl_c_ends_it_with_code_0(bench):
    robot = bench.start_active("sim_robot")
    live = bench.run([*MASKACT, "monitor", "--json"])
    plain = bench.run([*MASKACT, "monitor"])

    def last_said(**what):
        node = next(iter(objects(live)[-1]["nodes"]), {}) if objects(live) else {}
        return {key: node.get(key) for key in what} == what

    bench.probe.wait(lambda: last_said(name="/maskact/sim_robot", lost=False), "the node in a line")
    bench.probe.wait(lambda: "sim_robot" in plain.output, "the node in a text")
    robot.kill()
    bench.probe.wait(lambda: last_said(name="/maskact/sim_robot", lost=True), "the node's loss in a line")
    bench.probe.wait(lambda: "lost" in plain.output, "the node's loss in a text")
    for program in (live, plain):
        program.send(signal.SIGINT)
        assert program.wait(within_s=5) == 0, program.output
        assert "Traceback" not in program.output


@pytest.mark.extended
def test_it_ends_after_the_seconds_that_were_asked_for(bench):
    program = bench.run([*MASKACT, "monitor", "--json", "--seconds", "1.5"])
    assert program.wait() == 0, program.output
    assert len(objects(program)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seconds", "-1"], "--seconds is -1; allowed: a number > 0"),
        (["--seconds", "nan"], "--seconds is nan; allowed: a number > 0"),
        (["--namespace", "no name"], "--namespace is 'no name'; allowed: words of letters, digits and _"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_sentence(bench, arguments, sentence):
    program = bench.run([*MASKACT, "monitor", *arguments])
    assert program.wait() == 1
    assert sentence in program.output
    assert "Traceback" not in program.output


def test_reset_says_what_the_publisher_answered(bench):
    bench.start_active("action_publisher")
    program = bench.run([*MASKACT, "reset"])
    assert program.wait() == 0, program.output
    assert "epoch" in program.output


@pytest.mark.extended
def test_reset_without_a_publisher_says_what_is_missing(bench):
    program = bench.run([*MASKACT, "reset", "--namespace", "/nobody"])
    assert program.wait() == 1
    assert "there is no /nobody/action_publisher/reset within 5 s" in program.output
    assert "Traceback" not in program.output
