"""What the nodes run: the same numbers as the whole policy, and one sentence on input that does not fit."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from maskact_ros.core.statistics import FeatureStatistics
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime

STATE = np.array([0.1, 0.2, 0.3])


@pytest.fixture(scope="module")
def model(make_spec):
    torch.manual_seed(6)
    policy = MaskACT(make_spec(use_lora=True, freeze_backbone=True, use_aux_head=True)).eval()
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return policy


@pytest.fixture(scope="module")
def info(model, tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("runtime") / "checkpoint", model)


@pytest.fixture(scope="module")
def encoder(info):
    return EncoderRuntime.load(info, engine=Engine(device="cpu"))


@pytest.fixture(scope="module")
def planner(info):
    return PlannerRuntime.load(info, engine=Engine(device="cpu"))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(7).integers(0, 256, (48, 48, 3), np.uint8)


def test_encoder_and_planner_give_the_whole_policys_numbers(model, encoder, planner, image):
    encoding = encoder.encode(image)
    with torch.no_grad():
        whole = model.encode(torch.from_numpy(image)[None])
        labels = whole.segmentation.patch_labels
        chunk = model.act(whole.features, labels, torch.tensor(STATE, dtype=torch.float32)[None])
    np.testing.assert_allclose(encoding.features, whole.features[0], rtol=2**-10, atol=1e-5)
    np.testing.assert_array_equal(encoding.patch_labels, labels[0])
    np.testing.assert_allclose(encoding.patch_confidence, whole.segmentation.patch_confidence[0], rtol=2**-10)
    np.testing.assert_allclose(planner.predict(encoding.features, encoding.patch_labels, STATE), chunk[0], atol=5e-3)


def test_arrays_have_the_types_and_shapes_that_the_messages_carry(encoder, planner, image):
    encoding = encoder.encode(image, label_image=True, confidence_image=True)
    shapes = {
        "features": (np.float16, (9, 16)),
        "patch_labels": (np.int8, (9,)),
        "patch_confidence": (np.float16, (9,)),
        "label_image": (np.uint8, (48, 48)),
        "confidence_image": (np.float32, (48, 48)),
    }
    for name, (dtype, shape) in shapes.items():
        array = getattr(encoding, name)
        assert (array.dtype, array.shape) == (dtype, shape), name
    chunk = planner.predict(encoding.features, encoding.patch_labels, STATE)
    assert (chunk.dtype, chunk.shape) == (np.float64, (6, 3))


def test_another_configuration_of_the_same_weights_is_as_if_loaded_with_it_and_leaves_the_first_alone(
    info, encoder, planner, image
):
    rules, weights = {"-1": ["1"], "0": ["2"], "1": ["0"], "2": ["-1"]}, [9.0, 0.1, 0.1]
    config = replace(info.config, label_attention_rules=rules, mask_importance_weights=weights)
    before = encoder.encode(image)
    chunk = planner.predict(before.features, before.patch_labels, STATE)

    changed = encoder.with_config(config).encode(image)
    np.testing.assert_array_equal(
        changed.patch_labels, EncoderRuntime.load(info, config, Engine(device="cpu")).encode(image).patch_labels
    )
    assert (changed.patch_labels != before.patch_labels).any()
    other = planner.with_config(config).predict(before.features, before.patch_labels, STATE)
    loaded = PlannerRuntime.load(info, config, Engine(device="cpu"))
    expected = loaded.predict(before.features, before.patch_labels, STATE)
    np.testing.assert_array_equal(other, expected)
    assert (other != chunk).any()

    np.testing.assert_array_equal(encoder.encode(image).patch_labels, before.patch_labels)
    np.testing.assert_array_equal(planner.predict(before.features, before.patch_labels, STATE), chunk)


def test_two_threads_may_compute_with_the_same_weights_at_once(info, encoder, planner):
    config = replace(info.config, label_attention_rules={0: (0,)}, mask_importance_weights=(9.0, 0.1, 0.1))
    encoders, planners = (encoder, encoder.with_config(config)), (planner, planner.with_config(config))
    images = np.random.default_rng(8).integers(0, 256, (40, 48, 48, 3), np.uint8)

    def see_and_plan(turn: int) -> list[np.ndarray]:
        chunks = []
        for image in images:
            encoding = encoders[turn].encode(image)
            chunks.append(planners[turn].predict(encoding.features, encoding.patch_labels, STATE))
        return chunks

    expected = [see_and_plan(0), see_and_plan(1)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(see_and_plan, range(2)))
    np.testing.assert_array_equal(found, expected)


def test_label_and_confidence_images_are_made_on_request_only(encoder, image):
    encoding = encoder.encode(image)
    assert encoding.label_image is None
    assert encoding.confidence_image is None
    assert encoder.encode(image, label_image=True).confidence_image is None


def test_timings_tell_encoder_and_mask_head_apart(encoder, image):
    timings = encoder.encode(image).timings
    assert timings.encoder_s > 0
    assert timings.mask_head_s > 0


def test_each_process_holds_the_weights_that_it_needs_and_no_others(encoder, planner):
    held = {name for name, _ in encoder._backend.encoder.named_parameters()}
    assert not any("lora" in name or "auxiliary" in name for name in held)
    assert not any("vae" in name for name, _ in planner._backend.planner.named_parameters())
    assert not any(p.requires_grad for p in encoder._backend.encoder.parameters())


def test_the_planners_process_never_loads_the_libraries_of_the_encoder(info):
    code = (
        "import sys; from maskact_ros.core.checkpoint import CheckpointInfo; "
        "from maskact_ros.policy.runtime import PlannerRuntime; "
        f"PlannerRuntime.load(CheckpointInfo.read({str(info.folder)!r})).warm_up(); "
        "print([name for name in ('transformers', 'peft') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_warming_up_changes_nothing(encoder, planner, image):
    before = encoder.encode(image)
    chunk = planner.predict(before.features, before.patch_labels, STATE)
    encoder.warm_up()
    planner.warm_up()
    np.testing.assert_array_equal(encoder.encode(image).features, before.features)
    np.testing.assert_array_equal(planner.predict(before.features, before.patch_labels, STATE), chunk)


@pytest.mark.parametrize(("part", "words"), [("encoder", "features of a dark"), ("mask_head", "confidence")])
def test_a_policy_that_sees_nothing_finite_does_not_warm_up(info, part, words):
    runtime = EncoderRuntime.load(info)
    for parameter in getattr(runtime._backend, part).parameters():
        parameter.fill_(float("nan"))
    with pytest.raises(PolicyError, match=words):
        runtime.warm_up()


def test_runtime_parameters_may_differ_from_the_checkpoints(info, image):
    ruled = replace(info.config, label_attention_rules={0: (0,), 1: (1,), 2: (2,)})
    labels = np.arange(9, dtype=np.int8) % 3
    features = np.ones((9, 16), np.float16)
    free = PlannerRuntime.load(info).predict(features, labels, STATE)
    assert not np.allclose(PlannerRuntime.load(info, ruled).predict(features, labels, STATE), free)

    for favourite in range(3):
        weights = tuple(10.0 if i == favourite else 0.0 for i in range(3))
        favoured = EncoderRuntime.load(info, replace(info.config, mask_importance_weights=weights))
        assert (favoured.encode(image).patch_labels == favourite).all()


def test_a_policy_without_masks_has_no_labels(make_spec, image, tmp_path):
    info = save_checkpoint(tmp_path / "checkpoint", MaskACT(make_spec(use_mask=False)))
    encoding = EncoderRuntime.load(info).encode(image, label_image=True, confidence_image=True)
    assert encoding.patch_labels is None
    assert encoding.patch_confidence is None
    assert encoding.label_image is None
    assert encoding.confidence_image is None
    assert encoding.timings.mask_head_s == 0
    assert PlannerRuntime.load(info).predict(encoding.features, None, STATE).shape == (6, 3)


def test_a_read_only_array_from_a_message_is_welcome(planner):
    features = np.frombuffer(bytes(9 * 16 * 2), np.float16).reshape(9, 16)
    labels = np.frombuffer(bytes(9), np.int8)
    assert planner.predict(features, labels, STATE).shape == (6, 3)


@pytest.mark.parametrize(
    ("features", "labels", "state", "words"),
    [
        (np.ones((4, 16), np.float16), np.zeros(9, np.int8), STATE, "features have the shape (4, 16)"),
        (np.ones((9, 16), np.float16), np.zeros(4, np.int8), STATE, "patch labels have the shape (4,)"),
        (np.ones((9, 16), np.float16), np.full(9, 3, np.int8), STATE, "patch labels reach from 3 to 3"),
        (np.ones((9, 16), np.float16), None, STATE, "came without patch labels"),
        (np.ones((9, 16), np.float16), np.zeros(9, np.int8), STATE[:2], "state have the shape (2,)"),
        (np.ones((9, 16), np.float16), np.zeros(9, np.int8), STATE * np.nan, "allowed: finite joint positions"),
        (np.full((9, 16), np.inf, np.float16), np.zeros(9, np.int8), STATE, "actions are not all finite"),
    ],
)
def test_input_that_does_not_fit_is_one_sentence(planner, features, labels, state, words):
    with pytest.raises(PolicyError) as error:
        planner.predict(features, labels, state)
    assert words in str(error.value)


@pytest.mark.parametrize("image", [np.zeros((32, 48, 3), np.uint8), np.zeros((48, 48, 3), np.float32)])
def test_a_picture_that_does_not_fit_is_one_sentence(encoder, image):
    with pytest.raises(PolicyError, match="allowed: uint8 of"):
        encoder.encode(image)


def test_a_device_that_is_not_there_is_one_sentence(info):
    with pytest.raises(PolicyError, match="which torch cannot use here"):
        PlannerRuntime.load(info, engine=Engine(device="cuda:99"))


def test_the_number_of_threads_is_the_callers_choice(info):
    before = torch.get_num_threads()
    try:
        PlannerRuntime.load(info, engine=Engine(threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("largest", [1e9, 4e8])
def test_statistics_beyond_any_joint_are_a_sentence_and_not_a_chunk(make_spec, tmp_path, largest):
    spec = make_spec()
    numbers = (largest,) * len(spec.robot.joints)
    huge = FeatureStatistics(mean=numbers, std=numbers, min=tuple(-n for n in numbers), max=numbers)
    torch.manual_seed(6)
    policy = MaskACT(replace(spec, statistics=replace(spec.statistics, action=huge))).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(4.0)
    runtime = PlannerRuntime.load(save_checkpoint(tmp_path / "checkpoint", policy))
    with pytest.raises(PolicyError, match="actions are not all finite and within ±1e\\+09"):
        runtime.warm_up()
