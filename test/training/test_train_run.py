"""A run leaves what the nodes can use, whatever ends it, and goes on as if nothing had ended it."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support import small_run
from support.small_run import CLASSES, assert_same_state, settings_of, state_of, write_dataset, write_policy

from maskact_ros.cli import main
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.model.backbone import canonical_name
from maskact_ros.policy.model.weights import load_checkpoint
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run import run_folder, train
from maskact_ros.training.run import training_run as run_of
from maskact_ros.training.run.augment import PRESETS
from maskact_ros.training.run.run_log import RunLog
from maskact_ros.training.run.start import initial_model, open_datasets
from maskact_ros.training.run.step import average, rate_factor

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(autouse=True)
def usual_step(monkeypatch):
    """`small_run.at_step` replaces it; drawing takes most of a tiny run's time."""
    monkeypatch.setattr(RunLog, "draw", lambda _: None)
    monkeypatch.setattr(train, "take_step", train.take_step)


def weights(folder):
    """By the names that a checkpoint has."""
    return canonical(load_checkpoint(CheckpointInfo.read(folder)))


def canonical(module):
    return {canonical_name(name): tensor for name, tensor in module.state_dict().items()}


def log_of(run, about):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["about"] == about]


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory, dataset):
    """Both stages, through the command; what it printed."""
    folder = tmp_path_factory.mktemp("stages")
    config = write_policy(folder / "policy.json")
    common = ["--dataset", str(dataset), "--config", str(config), "--steps", "6", "--batch-size", "4"]
    common += ["--val-episodes", "0.3", "--eval-every", "3", "--threads", "1", "--device", "cpu"]
    for extra in (
        ["--stage", "stage1", "--out", str(folder / "one")],
        ["--stage", "stage2", "--out", str(folder / "two"), "--init", str(folder / "one" / "checkpoint")],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["train", *common, *extra])
        assert ended.value.code == 0
    return folder


def test_the_nodes_run_what_was_trained(two_stages):
    info = CheckpointInfo.read(two_stages / "two" / "checkpoint")
    encoding = EncoderRuntime.load(info).encode(np.zeros((48, 48, 3), np.uint8))
    chunk = PlannerRuntime.load(info).predict(encoding.features, encoding.patch_labels, np.zeros(2))
    assert chunk.shape == (4, 2)
    assert info.mask_classes == CLASSES
    assert info.robot == small_run.ROBOT


def test_the_statistics_are_the_datasets(two_stages):
    statistics = CheckpointInfo.read(two_stages / "two" / "checkpoint").statistics
    rows = sum(small_run.LENGTHS)
    assert statistics.action.min == pytest.approx((0.1, -rows / 10))
    assert statistics.state.mean == pytest.approx(((rows - 1) / 20, -(rows - 1) / 20))


def test_stage_1_leaves_the_planner_as_it_began_and_stage_2_begins_with_what_stage_1_has_seen(two_stages, dataset):
    one = weights(two_stages / "one" / "checkpoint")
    first = settings_of(two_stages, dataset, "x", stage="stage1")
    begun = canonical(initial_model(first, open_datasets(first))[0])
    changed = {name for name in one if not torch.equal(one[name], begun[name])}
    assert not any(name.startswith("planner.") for name in changed)
    assert any(name.startswith("perception.mask_head.") for name in changed)
    settings = settings_of(two_stages, dataset, "x", init=two_stages / "one" / "checkpoint")
    model, origin = initial_model(settings, open_datasets(settings))
    taken = canonical(model.perception)
    assert all(torch.equal(taken[name], one[f"perception.{name}"]) for name in taken)
    assert "stage 1" in origin


def test_losses_and_iou_by_class_are_logged_and_drawn(two_stages):
    run = two_stages / "two"
    assert [line["step"] for line in log_of(run, "held-out")] == [3, 6]
    assert all(set(line["iou"]) == set(CLASSES) for line in log_of(run, "held-out"))
    assert {"total", "mask", "action", "kl", "gradient_norm"} <= log_of(run, "training")[-1].keys()
    (speed,) = log_of(run, "throughput")
    assert speed["samples_per_s"] > 0
    assert 0 <= speed["waiting_share"] < 1
    assert cv2.imread(str(run / "curves.png")).shape[0] > 100
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))


def test_the_best_checkpoint_is_that_of_the_lowest_held_out_loss(two_stages):
    run = two_stages / "two"
    assert state_of(run)[1]["best_loss"] == min(line["total"] for line in log_of(run, "held-out"))
    CheckpointInfo.read(run / "best").verify()


def test_what_is_trained_at_which_rate_is_printed_first(tmp_path, dataset, capsys):
    policy = {"use_lora": True, "freeze_backbone": True, "optimizer_lr": 0.002}
    train.train(settings_of(tmp_path, dataset, "run", steps=1, policy=policy))
    printed = capsys.readouterr().out
    rows = {cells[0].strip(): cells[1:] for line in printed.splitlines() if len(cells := line.split("│")[1:-1]) == 4}
    kinds = {part: [cell.strip() for cell in cells[1:]] for part, cells in rows.items()}
    assert kinds == {
        "backbone": ["frozen", ""],
        "LoRA adapters": ["trained", "0.0002"],
        "projection": ["trained", "0.0002"],
        "mask head": ["trained", "0.0002"],
        "planner": ["trained", "0.002"],
    }
    assert "random weights" in printed


def test_a_few_steps_learn_the_masks(tmp_path, dataset):
    policy = {"optimizer_lr": 0.01, "optimizer_lr_backbone": 0.001}
    settings = settings_of(
        tmp_path, dataset, "run", stage="stage1", steps=40, policy=policy, augment=PRESETS["none"], eval_every=40
    )
    train.train(settings)
    assert log_of(settings.out, "held-out")[-1]["iou"]["background"] > 0.7


@pytest.fixture(scope="module")
def whole(tmp_path_factory, dataset):
    """A run that nobody kills."""
    settings = settings_of(tmp_path_factory.mktemp("uninterrupted"), dataset, "whole", ema=0.9)
    train.train(settings)
    return settings


@pytest.mark.parametrize(
    ("mode", "saved"),
    [
        pytest.param("before the first save", None, marks=pytest.mark.extended),
        ("in a step", 5),
        pytest.param("while saving", 10, marks=pytest.mark.extended),
    ],
    ids=str,
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, dataset, whole, mode, saved):
    killed = settings_of(tmp_path, dataset, "killed", ema=0.9)
    command = [sys.executable, small_run.__file__, mode, json.dumps(killed.to_dict())]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = killed.out / "state.safetensors"
    assert (state_of(killed.out)[1]["step"] if state.exists() else None) == saved
    assert train.train(train.resumed(killed.out), resume=True) == 0
    assert_same_state(whole.out, killed.out)
    for name in ("checkpoint", "best"):
        hashes = [CheckpointInfo.read(run.out / name).weights_hash for run in (whole, killed)]
        assert hashes[0] == hashes[1]
    left, expected = ({path.name for path in run.out.iterdir()} - {"curves.png"} for run in (killed, whole))
    assert left == expected
    assert [line["step"] for line in log_of(killed.out, "held-out")] == [5, 10]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_of_that_step(tmp_path, dataset, number):
    settings = settings_of(tmp_path, dataset, "run")
    small_run.at_step(2, lambda: os.kill(os.getpid(), number))
    assert train.train(settings) == 128 + number
    assert state_of(settings.out)[1]["step"] == 3
    CheckpointInfo.read(settings.out / "checkpoint").verify()
    assert signal.getsignal(number) is not None
    assert train.train(train.resumed(settings.out), resume=True) == 0
    assert state_of(settings.out)[1]["step"] == 10


def test_a_loss_that_is_not_finite_stops_the_run_with_its_components(tmp_path, dataset):
    settings = settings_of(tmp_path, dataset, "run", policy={"optimizer_lr": 1e30}, eval_every=1)
    with pytest.raises(TrainingError, match=r"not finite \(total (nan|inf), .*action (nan|inf)"):
        train.train(settings)


def test_a_full_disk_leaves_the_old_state_whole(tmp_path, dataset):
    settings = settings_of(tmp_path, dataset, "run")
    before = []

    def fill():
        if not before:  # once, not again after the resume
            before.append((settings.out / "state.safetensors").read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    small_run.at_step(7, fill)
    try:
        with pytest.raises(TrainingError, match=r"cannot be written .*is whole"):
            train.train(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (settings.out / "state.safetensors").read_bytes() == before[0]
    CheckpointInfo.read(settings.out / "checkpoint").verify()
    assert not [path for path in settings.out.iterdir() if path.name.startswith(".")]
    assert train.train(train.resumed(settings.out), resume=True) == 0


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(tmp_path, dataset, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder, "save_checkpoint", full)
    with pytest.raises(TrainingError, match=r"best: cannot be written \(No space left on device\)"):
        train.train(settings_of(tmp_path, dataset, "run"))


def test_averaged_weights_are_what_is_saved_for_use(tmp_path, dataset):
    settings = settings_of(tmp_path, dataset, "run", ema=0.5)
    train.train(settings)
    tensors, _ = state_of(settings.out)
    saved = weights(settings.out / "checkpoint")
    assert all(torch.equal(tensor, tensors[f"ema/{name}"]) for name, tensor in saved.items())
    assert any(not torch.equal(tensor, tensors[f"model/{name}"]) for name, tensor in saved.items())


def test_averaging_is_the_published_formula(tmp_path, dataset):
    settings = settings_of(tmp_path, dataset, "run")
    datasets = open_datasets(settings)
    ema, model = (initial_model(settings, datasets)[0] for _ in range(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    expected = {n: 0.9 * ema.state_dict()[n] + 0.1 * t for n, t in model.state_dict().items() if t.is_floating_point()}
    average(ema, model, 0.9)
    for name, tensor in expected.items():
        torch.testing.assert_close(ema.state_dict()[name], tensor)


@pytest.mark.extended
def test_a_compiled_run_leaves_what_an_eager_one_leaves(tmp_path, dataset):
    settings = {
        name: settings_of(tmp_path, dataset, name, steps=2, compile=name == "compiled") for name in ("a", "compiled")
    }
    with torch.compiler.set_stance("force_eager"):  # all but the compiler, which takes minutes
        for run in settings.values():
            assert train.train(run) == 0
    assert train.resumed(settings["compiled"].out).compile
    assert_same_state(settings["a"].out, settings["compiled"].out)


@pytest.mark.timeout(400)
@pytest.mark.extended
def test_two_processes_make_the_gradient_of_one_with_the_double_batch(tmp_path, dataset):
    # Without what is random or counted batch by batch: dropout, latent, batch norm, padding.
    policy = {"use_mask": False, "use_vae": False, "dropout": 0.0, "chunk_size": 1, "n_action_steps": 1}
    (tmp_path / "dino").mkdir()
    backbone = small_run.BACKBONE | {"pos_embed_rescale": None}
    settings = [settings_of(tmp_path, dataset, name, policy=policy, steps=1, augment=PRESETS["none"]) for name in "ab"]
    (tmp_path / "dino" / "config.json").write_text(json.dumps(backbone))
    train.train(settings[0])
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0"
    command = [sys.executable, *launch.split(), "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["-m", "maskact_ros.cli", "train", "--dataset", str(dataset), "--config", str(settings[1].config)]
    command += ["--stage", "stage2", "--out", str(settings[1].out), "--steps", "1", "--batch-size", "4"]
    command += ["--threads", "1", "--device", "cpu", "--augment", "none", "--warmup", "2", "--val-episodes", "0.3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es)" in done.stdout
    (one, _), (two, _) = (state_of(s.out) for s in settings)
    gradients = [name for name in one if name.endswith("/exp_avg")]
    assert len(gradients) > 30
    assert max(float(one[name].abs().max()) for name in gradients) > 1e-3
    for name in gradients:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)


def test_rates_rise_in_a_line_and_fall_along_a_cosine():
    factors = [rate_factor(step, 100, 10) for step in range(100)]
    assert factors[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert factors[10] == pytest.approx(1)
    assert factors[55] == pytest.approx(0.505)
    assert factors[99] == pytest.approx(0.01, abs=1e-3)
    assert all(a >= b for a, b in pairwise(factors[10:]))


def command_error(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments)])
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("policy", "extra", "said"),
    [
        ({"num_mask": 4}, [], "num_mask is 4; allowed: 3"),
        ({}, ["--stage", "stage3"], "--stage is stage3; allowed: stage1 or stage2"),
        ({}, ["--steps", "0"], "--steps is 0; allowed"),
        ({}, ["--ema", "1"], "--ema is 1.0; allowed"),
        ({}, ["--augment", "wild"], "--augment is wild; allowed: none, colour, standard, full"),
        ({}, ["--device", "tpu"], "--device is tpu; allowed: auto, cpu"),
        ({}, ["--resume"], "leave out"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, dataset, capsys, policy, extra, said):
    config = write_policy(tmp_path / "policy.json", **policy)
    given = ["--dataset", dataset, "--stage", "stage2", "--config", config, "--out", tmp_path / "run", *extra]
    assert said in command_error(capsys, *given)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_and_only_a_run_is_resumed(tmp_path, dataset, capsys):
    settings = settings_of(tmp_path, dataset, "run", steps=1)
    train.train(settings)
    with pytest.raises(TrainingError, match=r"holds a run already; --resume"):
        train.train(settings)
    assert "no run to resume" in command_error(capsys, "--resume", "--out", tmp_path / "nothing")


def test_a_start_that_is_refused_leaves_no_run_behind(tmp_path, dataset, monkeypatch):
    def full(*_):
        raise TrainingError("the decoded frames cannot be written")

    settings = settings_of(tmp_path, dataset, "run", steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(run_of, "open_frames", full)
        with pytest.raises(TrainingError, match="cannot be written"):
            train.train(settings)
    assert not settings.out.exists()
    assert train.train(settings) == 0


def begin_and_stop_before_the_first_save(settings, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(train, "_loop", lambda *_: 0)
        train.train(settings)
    assert [path.name for path in settings.out.iterdir()] == ["run.json"]


def test_a_run_without_a_state_begins_again_with_its_initial_checkpoint(two_stages, tmp_path, dataset, monkeypatch):
    init = two_stages / "one" / "checkpoint"
    whole, stopped = (settings_of(tmp_path, dataset, name, init=init, steps=2) for name in ("whole", "stopped"))
    train.train(whole)
    begin_and_stop_before_the_first_save(stopped, monkeypatch)
    assert train.train(train.resumed(stopped.out), resume=True) == 0
    assert_same_state(whole.out, stopped.out)


def test_a_run_without_a_state_is_not_begun_again_as_another_policy(tmp_path, dataset, monkeypatch):
    settings = settings_of(tmp_path, dataset, "run")
    begin_and_stop_before_the_first_save(settings, monkeypatch)
    write_policy(settings.config, chunk_size=5)
    with pytest.raises(TrainingError, match=r"policy\.json or --init has changed since the run was started"):
        train.train(train.resumed(settings.out), resume=True)


def test_one_process_removes_what_a_kill_left_and_the_others_do_not(tmp_path, dataset, monkeypatch):
    settings = settings_of(tmp_path, dataset, "run", steps=1)
    train.train(settings)
    left = [settings.out / f".state.{'0123' * 8}.safetensors", settings.out / f".checkpoint.{'4567' * 8}"]
    left[0].write_bytes(b"half")
    left[1].mkdir()
    for is_main in (False, True):
        monkeypatch.setattr(run_of.Accelerator, "is_main_process", is_main)
        train.prepare(train.resumed(settings.out), train.start_accelerator(settings), resume=True)
        assert [path.exists() for path in left] == [not is_main] * 2


def test_stage_1_needs_masks(tmp_path):
    without = write_dataset(tmp_path / "dataset", masks=False)
    with pytest.raises(TrainingError, match="has none"):
        train.train(settings_of(tmp_path, without, "run", stage="stage1"))


def test_stage_2_learns_actions_from_pictures_without_masks(tmp_path):
    without = write_dataset(tmp_path / "dataset", masks=False)
    settings = settings_of(tmp_path, without, "run", steps=2)
    assert train.train(settings) == 0
    assert "mask" not in log_of(settings.out, "training")[-1]


def test_an_initial_checkpoint_that_does_not_fit_is_refused_with_every_difference(two_stages, tmp_path, dataset):
    settings = settings_of(
        tmp_path, dataset, "run", init=two_stages / "two" / "checkpoint", policy={"dim_model": 32, "chunk_size": 7}
    )
    with pytest.raises(TrainingError, match=r"chunk_size is 7 and the checkpoint's 4; .*dim_model is 32"):
        train.train(settings)


def initial_classes(folder, data, init=None, **policy) -> tuple[str, ...]:
    settings = settings_of(folder, data, "run", policy=policy, init=init)
    return initial_model(settings, open_datasets(settings))[0].spec.mask_classes


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "unlabelled", masks=False)


SWAPPED = (CLASSES[0], CLASSES[2], CLASSES[1])


def test_the_mask_classes_of_the_policys_json_are_the_datasets_in_the_same_order(tmp_path, dataset):
    with pytest.raises(TrainingError) as refused:
        initial_classes(tmp_path, dataset, mask_classes=SWAPPED)
    assert f"policy.json has background, cube, arm, {dataset} has background, arm, cube; allowed" in str(refused.value)
    assert initial_classes(tmp_path, dataset, mask_classes=CLASSES) == CLASSES
    assert initial_classes(tmp_path, dataset) == CLASSES


def test_the_mask_classes_of_the_policys_json_are_those_of_the_initial_checkpoint(two_stages, tmp_path, unlabelled):
    init = two_stages / "one" / "checkpoint"
    with pytest.raises(TrainingError, match=r"policy\.json has background, cube, arm, --init .* has background, arm"):
        initial_classes(tmp_path, unlabelled, init, mask_classes=SWAPPED)
    assert initial_classes(tmp_path, unlabelled, init, mask_classes=CLASSES) == CLASSES


def test_without_masks_to_learn_from_the_classes_are_the_initial_checkpoints(two_stages, tmp_path, unlabelled):
    assert initial_classes(tmp_path, unlabelled, two_stages / "one" / "checkpoint") == CLASSES
    assert initial_classes(tmp_path, unlabelled) == ("background", "robot", "object")


@pytest.mark.parametrize("names", [SWAPPED, ("background", "arm", "cup")], ids=str)
def test_a_mask_head_goes_on_under_other_names_but_not_in_another_order(two_stages, tmp_path, dataset, names):
    settings = settings_of(tmp_path, dataset, "run", init=two_stages / "one" / "checkpoint")
    relabelled = [replace(data, mask_classes=names) for data in open_datasets(settings)]
    if names == SWAPPED:
        with pytest.raises(TrainingError, match="allowed: the same names in the same order"):
            initial_model(settings, relabelled)
    else:
        assert initial_model(settings, relabelled)[0].spec.mask_classes == names


def test_an_action_only_policy_takes_the_encoder_of_stage_1(two_stages, tmp_path, dataset):
    one = two_stages / "one" / "checkpoint"
    settings = settings_of(tmp_path, dataset, "run", init=one, policy={"use_mask": False})
    model, _ = initial_model(settings, open_datasets(settings))
    assert model.perception.mask_head is None
    taken = weights(one)
    assert all(torch.equal(t, taken[f"perception.{name}"]) for name, t in canonical(model.perception).items())


def test_a_dataset_that_has_changed_is_not_gone_on_with(tmp_path, dataset):
    settings = settings_of(tmp_path, dataset, "run", steps=1)
    train.train(settings)
    about = json.loads((settings.out / "run.json").read_text())
    about["fingerprints"] = ["0123456789abcdef"]
    (settings.out / "run.json").write_text(json.dumps(about))
    with pytest.raises(TrainingError, match="a dataset has changed"):
        train.train(train.resumed(settings.out), resume=True)
