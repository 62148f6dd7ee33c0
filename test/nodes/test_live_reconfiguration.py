"""Parameters set while a node runs: as if it had been started with them, or refused with the reason and no change."""

from contextlib import contextmanager

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from sensor_msgs.msg import CompressedImage, Image
from support.asking import all_values, ask, ask_one_by_one, ask_with, message
from support.node_bench import BEST_EFFORT, Bench
from support.stand_ins import Camera
from test_inference import start as start_inference
from test_lifecycle import change

NAN = float("nan")


def malformed(name: str, kind: int, **value) -> Parameter:
    return Parameter(name=name, value=ParameterValue(type=kind, **value))


@pytest.fixture(scope="module")
def inference(module_bench, policy, robot):
    return start_inference(module_bench, policy, robot)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (message("max_image_age_s", 1), "max_image_age_s is 1; allowed: a number with a decimal point, such as 1.0"),
        (message("max_image_age_s", "soon"), "max_image_age_s is 'soon'; allowed: a number with a decimal point"),
        (message("max_image_age_s", NAN), "max_image_age_s is nan; allowed: finite numbers"),
        (message("max_image_age_s", 1e308), "max_image_age_s is 1e+308; allowed: 0.01 to 60"),
        (message("max_image_age_s", -1.0), "max_image_age_s is -1.0; allowed: 0.01 to 60"),
        (message("max_image_age_s", [1.0]), "max_image_age_s is [1.0]; allowed: a number with a decimal point"),
        (malformed("max_image_age_s", 0), "max_image_age_s cannot be deleted"),
        (malformed("max_image_age_s", 77), "max_image_age_s has the type 77; allowed"),
        (message("n_action_steps", 0), "n_action_steps is 0; allowed: an integer >= 1"),
        (message("n_action_steps", 21), "n_action_steps is 21; allowed: at most chunk_size, which is 20"),
        (message("n_action_steps", 10.0), "n_action_steps is 10.0; allowed: an integer"),
        (message("temporal_ensemble_coeff", NAN), "temporal_ensemble_coeff is nan; allowed: finite numbers"),
        (message("temporal_ensemble_coeff", "off"), 'temporal_ensemble_coeff is "off"; allowed: a number >= -100'),
        (message("temporal_ensemble_coeff", [0.1]), "temporal_ensemble_coeff is [0.1]; allowed: a number"),
        (malformed("temporal_ensemble_coeff", 0), "temporal_ensemble_coeff cannot be deleted"),
        (
            malformed("temporal_ensemble_coeff", ParameterType.PARAMETER_BYTE_ARRAY, byte_array_value=[b"a"]),
            "temporal_ensemble_coeff is",
        ),
        (message("label_attention_rules.0", ["0", "3"]), "label_attention_rules names the label 3"),
        (message("label_attention_rules.0", ["cube"]), "label_attention_rules is"),
        (malformed("label_attention_rules.0", ParameterType.PARAMETER_BOOL_ARRAY), "label_attention_rules is"),
        (message("label_attention_rules.3", ["0"]), "unknown parameter label_attention_rules.3"),
        (message("mask_importance_weights", [1.0, 2.0, 3.0]), "it is another node that uses it"),
        (message("chunk_size", 10), "fixed by the checkpoint's weights"),
        (message("optimizer_lr", 0.1), "it matters to the trainer only"),
        (message("device", "cpu"), "device cannot change now. Read-only: it is read once"),
        (message("n_action_step", 5), "unknown parameter n_action_step (value 5); did you mean n_action_steps?"),
    ],
    ids=lambda value: None if isinstance(value, Parameter) else value,
)
def test_what_does_not_fit_is_refused_with_the_reason_and_changes_nothing(inference, request_, reason):
    probe = inference.probe
    before = all_values(probe, "inference")
    fits = message("state_tolerance_s", 0.05)
    refusals = [ask_with(probe, "inference", fits, request_), *ask_one_by_one(probe, "inference", request_)]
    for refusal in refusals:
        assert not refusal.successful
        assert reason in refusal.reason
        assert "\n" not in refusal.reason
    assert all_values(probe, "inference") == before
    assert inference.program.running
    assert "Traceback" not in inference.program.output


def test_a_parameter_set_twice_in_one_request_is_refused(inference):
    twice = [message("max_image_age_s", value) for value in (0.5, 0.6)]
    assert "set twice" in ask_with(inference.probe, "inference", *twice).reason


def test_one_by_one_those_that_fit_are_set_and_the_others_refused(inference):
    wanted = [message("max_image_age_s", 2.0), message("max_image_age_s", NAN), message("n_action_steps", 9)]
    results = ask_one_by_one(inference.probe, "inference", *wanted)
    assert [result.successful for result in results] == [True, False, True]
    values = all_values(inference.probe, "inference")
    assert (values["max_image_age_s"], values["n_action_steps"]) == (2.0, 9)
    assert ask(inference.probe, "inference", n_action_steps=10).successful


def test_ensembling_and_n_action_steps_change_between_two_plans(inference):
    def chunks_of_60_images() -> int:
        known = len(inference.chunks), len(inference.sent_ns)
        inference.see_until(lambda: len(inference.sent_ns) >= known[1] + 60, "60 images")
        return len(inference.chunks) - known[0]

    probe = inference.probe
    as_in_the_checkpoint = chunks_of_60_images()
    assert ask(probe, "inference", n_action_steps=1).successful
    assert chunks_of_60_images() > 1.5 * as_in_the_checkpoint
    assert ask(probe, "inference", n_action_steps=20).successful
    assert chunks_of_60_images() <= as_in_the_checkpoint
    assert ask(probe, "inference", temporal_ensemble_coeff=0.01).successful
    assert chunks_of_60_images() > 1.5 * as_in_the_checkpoint
    assert ask(probe, "inference", temporal_ensemble_coeff="none", n_action_steps=10).successful
    assert chunks_of_60_images() < 1.5 * as_in_the_checkpoint


def actions(heard) -> np.ndarray:
    return np.array([point.positions for point in heard.message.points])


def chunk_of_the_same_image(rig) -> np.ndarray:
    """What it plans anew from one picture that is the same each time, as are the joints."""
    assert rig.probe.reset("inference").success
    before = len(rig.sent_ns)

    def heard():
        return next((each for each in rig.chunks if rig.stamp_of(each) in rig.sent_ns[before:]), None)

    rig.see_until(heard, "a chunk of the picture", seed=5)
    return actions(heard())


def test_attention_rules_set_while_it_runs_give_the_chunks_of_a_node_started_with_them(
    inference, bench, policy, robot, tmp_path
):
    params_file = tmp_path / "maskact.yaml"
    params_file.write_text(
        '/**:\n  ros__parameters:\n    label_attention_rules:\n      "-1": ["1"]\n      "1": ["0"]\n'
    )
    generous = {"state_tolerance_s": 10.0, "max_image_age_s": 10.0}
    started_with = chunk_of_the_same_image(start_inference(bench, policy, robot, params_file=params_file, **generous))
    assert ask(inference.probe, "inference", **generous).successful
    before = chunk_of_the_same_image(inference)
    changes = {"label_attention_rules.-1": ["1"], "label_attention_rules.1": ["0"]}
    assert ask_with(inference.probe, "inference", *(message(*item) for item in changes.items())).successful
    assert (chunk_of_the_same_image(inference) == started_with).all()
    assert not (before == started_with).all()
    changes = dict.fromkeys(changes, "none")
    assert ask_with(inference.probe, "inference", *(message(*item) for item in changes.items())).successful
    assert (chunk_of_the_same_image(inference) == before).all()


@contextmanager
def encoding(folder, policy, robot, **parameters):
    """An encoder before a camera whose picture is always the same, and its features."""
    folder.mkdir()
    with Bench(folder, policy) as bench:
        Camera(bench.probe, robot)
        features = bench.probe.hear(CompressedImage, "features", BEST_EFFORT)
        bench.start_active("camera_encoder", **parameters)
        bench.probe.wait(lambda: features, "features")
        yield bench, features


@pytest.mark.extended
def test_importance_weights_set_while_it_runs_give_the_features_of_a_node_started_with_them(tmp_path, policy, robot):
    weights = [0.1, 0.1, 10.0]
    with encoding(tmp_path / "a", policy, robot, mask_importance_weights=weights) as (_, features):
        expected = bytes(features[-1].message.data)
    with encoding(tmp_path / "b", policy, robot) as (bench, features):
        before = bytes(features[-1].message.data)
        assert before != expected
        assert ask(bench.probe, "camera_encoder", mask_importance_weights=weights).successful
        bench.probe.wait(lambda: bytes(features[-1].message.data) == expected, "the features of the other weights")
        seen = {bytes(heard.message.data) for heard in features}
        assert seen == {before, expected}, "an image is encoded with the old or the new weights, with nothing between"
        refusal = ask(bench.probe, "camera_encoder", mask_importance_weights=[1.0, 2.0])
        assert "as many numbers as num_mask, which is 3" in refusal.reason
        assert ask(bench.probe, "camera_encoder", mask_importance_weights="none").successful
        bench.probe.wait(lambda: bytes(features[-1].message.data) == before, "the features of no weights")


@pytest.mark.extended
def test_the_overlays_look_changes_with_its_parameter(tmp_path, policy, robot):
    things = [0.1, 0.1, 10.0]  # else all would be background, which has no colour
    with encoding(tmp_path / "a", policy, robot, mask_importance_weights=things) as (bench, _):
        overlays = bench.probe.hear(Image, "mask_overlay", BEST_EFFORT)
        bench.probe.wait(lambda: overlays, "an overlay")
        before = bytes(overlays[-1].message.data)
        assert ask(bench.probe, "camera_encoder", overlay_alpha=0.9).successful
        bench.probe.wait(lambda: bytes(overlays[-1].message.data) != before, "another overlay")


def test_before_it_is_configured_values_are_only_stored_and_then_used(bench):
    probe = bench.probe
    bench.start("inference", autostart=False)
    probe.wait(lambda: probe.reports("inference"), "a report")
    refusal = ask(probe, "inference", n_action_steps=5)
    assert "n_action_steps is not known before the node is configured" in refusal.reason
    assert ask(probe, "inference", max_image_age_s=3.0).successful
    assert change(probe, "inference", Transition.TRANSITION_CONFIGURE)
    assert ask(probe, "inference", n_action_steps=5).successful
    assert change(probe, "inference", Transition.TRANSITION_CLEANUP)
    assert ask(probe, "inference", n_action_steps=6).successful
    assert change(probe, "inference", Transition.TRANSITION_CONFIGURE)
    values = all_values(probe, "inference")
    assert (values["max_image_age_s"], values["n_action_steps"]) == (3.0, 6)
