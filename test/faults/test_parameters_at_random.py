"""Each parameter at its edges, beyond, NaN, of a wrong type, while the robot moves: applied within limits, or refused.

A refusal has a reason, and changes nothing.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterDescriptor, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from support.fault_rig import Rig
from support.node_bench import Bench
from support.soundness import assert_sound
from support.vision import Vision

pytestmark = pytest.mark.extended

# A parameter's types, and the field of a ParameterValue that carries each.
FIELDS = {
    ParameterType.PARAMETER_BOOL: "bool_value",
    ParameterType.PARAMETER_INTEGER: "integer_value",
    ParameterType.PARAMETER_DOUBLE: "double_value",
    ParameterType.PARAMETER_STRING: "string_value",
    ParameterType.PARAMETER_BYTE_ARRAY: "byte_array_value",
    ParameterType.PARAMETER_BOOL_ARRAY: "bool_array_value",
    ParameterType.PARAMETER_INTEGER_ARRAY: "integer_array_value",
    ParameterType.PARAMETER_DOUBLE_ARRAY: "double_array_value",
    ParameterType.PARAMETER_STRING_ARRAY: "string_array_value",
}
ABSURD = {
    ParameterType.PARAMETER_BOOL: [True, False],
    ParameterType.PARAMETER_INTEGER: [0, 1, -1, 2**31, -(2**63), 2**63 - 1],
    ParameterType.PARAMETER_DOUBLE: [0.0, -0.0, 1.0, -1.0, 5e-324, 1e308, -1e308, math.nan, math.inf, -math.inf],
    ParameterType.PARAMETER_STRING: ["", "none", "nan", "x" * 10_000, "\x00", "../..", "ä\n"],
    ParameterType.PARAMETER_BYTE_ARRAY: [[], [b"\x00"]],
    ParameterType.PARAMETER_BOOL_ARRAY: [[], [True]],
    ParameterType.PARAMETER_INTEGER_ARRAY: [[], [1, 2, 3]],
    ParameterType.PARAMETER_DOUBLE_ARRAY: [
        [],
        [math.nan],
        [math.inf, 1.0, 1.0],
        [-1.0, 0.0, 1e308],
        [0.5] * 3,
        [1.0] * 9,
    ],
    ParameterType.PARAMETER_STRING_ARRAY: [[], ["none"], ["0", "1"], ["9", "-1"]],
}
SETS_A_PHASE = 15


@dataclass(frozen=True)
class Attempt:
    """A parameter and what it is to be set to."""

    name: str
    kind: int
    value: object
    read_only: bool


class Settings:
    """A node's parameters, as its services tell and take them."""

    def __init__(self, bench: Bench, node: str):
        self._probe = bench.probe
        self._clients = {
            kind: bench.probe.node.create_client(kind, f"{node}/{service}")
            for kind, service in (
                (ListParameters, "list_parameters"),
                (GetParameters, "get_parameters"),
                (DescribeParameters, "describe_parameters"),
                (SetParameters, "set_parameters"),
            )
        }
        listed = self._call(ListParameters.Request(), ListParameters).result.names
        self.names = sorted(name for name in listed if not name.startswith("qos_overrides"))
        self.original = dict(zip(self.names, self.get(self.names), strict=True))
        self.changeable = [name for name in self.names if not self.describe(name).read_only]

    def get(self, names: list[str]) -> list[ParameterValue]:
        return self._call(GetParameters.Request(names=names), GetParameters).values

    def describe(self, name: str) -> ParameterDescriptor:
        return self._call(DescribeParameters.Request(names=[name]), DescribeParameters).descriptors[0]

    def set(self, name: str, value: ParameterValue) -> tuple[bool, str]:
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        result = self._call(request, SetParameters).results[0]
        return result.successful, result.reason

    def restore(self) -> None:
        """All parameters as they were; some may have to wait for others, as rules lie across them."""
        for _ in range(3):
            changed = [n for n, v in zip(self.names, self.get(self.names), strict=True) if v != self.original[n]]
            refused = [name for name in changed if not self.set(name, self.original[name])[0]]
            if not refused:
                return
        raise AssertionError(f"{refused} could not be set back")

    def attempt(self, random: np.random.Generator, names: list[str]) -> Attempt:
        """One parameter, with an absurd value or one at an edge of its range, of its own type or another."""
        name = str(random.choice(names))
        descriptor = self.describe(name)
        kind = self.get([name])[0].type if random.random() < 0.7 else int(random.choice(list(FIELDS)))
        options = list(ABSURD[kind])
        for bounds in (*descriptor.floating_point_range, *descriptor.integer_range):
            low, high = bounds.from_value, bounds.to_value
            if kind == ParameterType.PARAMETER_DOUBLE:
                edges = [low, high, math.nextafter(low, -math.inf), math.nextafter(high, math.inf)]
                options += 3 * [*edges, random.uniform(low, high)]
            elif kind == ParameterType.PARAMETER_INTEGER:
                options += 3 * [int(low), int(high), int(low) - 1, int(high) + 1]
        return Attempt(name, kind, options[int(random.integers(len(options)))], descriptor.read_only)

    def carry_out(self, attempt: Attempt) -> bool:
        """Whether it was applied; what is refused has a reason and changes nothing."""
        before = self.get([attempt.name])[0]
        wanted = ParameterValue(type=attempt.kind, **{FIELDS[attempt.kind]: attempt.value})
        applied, reason = self.set(attempt.name, wanted)
        after = self.get([attempt.name])[0]
        if applied:
            assert not attempt.read_only or before == wanted, f"{attempt} was applied"
            assert after == wanted, f"{attempt} was applied, and then it is {after}"
        else:
            assert reason, f"{attempt} was refused without a reason"
            assert "\n" not in reason, reason
            assert after == before, f"{attempt} was refused, and yet it is {after}"
        return applied

    def _call(self, request, kind: type):
        client = self._clients[kind]
        assert client.wait_for_service(timeout_sec=30.0)
        future = client.call_async(request)
        self._probe.wait(future.done, f"the answer to {request}")
        return future.result()


class Rates:
    """The control rates that were in force, and which commands each of them made."""

    def __init__(self, rig: Rig):
        self._rig = rig
        self._known = [(rig.began, rig.began, 100.0)]  # the change lies between two commands; from the second on: rate

    def change(self, change: Callable[[], bool], rate_hz: float) -> None:
        """Note that `change` changes the rate, if it returns true."""
        begin = len(self._rig.arm.commands)
        if change():
            time.sleep(0.15)  # until what was sent before has come
            self._known.append((begin, len(self._rig.arm.commands), rate_hz))

    def assert_sound(self) -> None:
        commands, robot = self._rig.arm.commands, self._rig.robot
        ends = [begin for begin, _, _ in self._known[1:]] + [len(commands)]
        for (_, begin, rate_hz), end in zip(self._known, ends, strict=True):
            if rate_hz <= 200.0:
                breaks = [i - begin for i in self._rig.breaks if begin < i < end]
                assert_sound(commands[begin:end], robot, rate_hz=rate_hz, breaks=breaks)
        slowest_s = 1 / min(rate_hz for _, _, rate_hz in self._known)
        # Faster ones may get lost on their way to the probe, as only the newest is kept: all are held against this.
        for before, after in itertools.pairwise(commands[self._rig.began :]):
            elapsed_s = max(slowest_s, after.at_s - before.at_s + 0.02)
            step = np.abs(np.array(after.message.data) - np.array(before.message.data))
            assert (step <= robot.velocity * elapsed_s).all()


@pytest.fixture(scope="module")
def running(module_bench, robot):
    rig = Rig.start(module_bench, robot)
    yield rig, Settings(module_bench, "action_publisher")
    rig.close()


def test_the_moving_publisher_refuses_with_a_reason_or_applies_within_limits(running, phase):
    rig, settings = running
    rig.move()
    rates, answers = Rates(rig), []

    def restore() -> bool:
        settings.restore()
        return True

    for _ in range(SETS_A_PHASE):
        if rig.rung in ("fault", "disabled", "idle"):  # it was told to come to rest, by max_run_s for one
            rates.change(restore, 100.0)
            rig.engage()
        names = settings.changeable if phase.random.random() < 0.8 else settings.names
        attempt = settings.attempt(phase.random, names)
        answers.append(attempt)
        if attempt.name == "control_rate_hz":
            rates.change(lambda attempt=attempt: settings.carry_out(attempt), attempt.value)
        else:
            settings.carry_out(attempt)
        phase.let_it_move(0.3)
        assert rig.publisher.running, rig.publisher.output
    rates.change(restore, 100.0)
    rig.heal()
    rig.planner.end()
    rig.probe.enable(False)
    assert "Traceback" not in rig.publisher.output, rig.publisher.output
    rates.assert_sound()


@pytest.fixture(scope="module")
def vision(tmp_path_factory, policy, robot):
    with Vision.start(tmp_path_factory.mktemp("vision"), policy, robot) as opened:
        yield opened, {name: Settings(opened.bench, name) for name in opened.programs}


@pytest.mark.parametrize("node", ["camera_encoder", "inference"])
def test_the_others_refuse_with_a_reason_or_apply_and_go_on(vision, phase, node):
    opened, settings = vision[0], vision[1][node]
    begin = len(opened.chunks)
    for _ in range(SETS_A_PHASE):
        names = settings.changeable if settings.changeable and phase.random.random() < 0.7 else settings.names
        settings.carry_out(settings.attempt(phase.random, names))
        phase.let_it_move(0.1)
    settings.restore()
    opened.wait_for_chunks(2)
    opened.assert_sound(begin)
    assert "Traceback" not in opened.programs[node].output, opened.programs[node].output
