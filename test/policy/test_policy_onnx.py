"""The onnxruntime backend: torch's numbers within the stated tolerance, and one sentence where it cannot run."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.conversions import Conversions
from support.reference_checkpoint import REFERENCE

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.policy.commands import import_reference
from maskact_ros.policy.engine import EXPORTABLE, Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.onnx import export as exporting
from maskact_ros.policy.onnx.export import export
from maskact_ros.policy.onnx.onnx_backend import OnnxPerception
from maskact_ros.policy.onnx.onnx_check import pictures
from maskact_ros.policy.onnx.onnx_files import Export, export_folder, fingerprint
from maskact_ros.policy.onnx.onnx_sessions import CPU, CUDA, TENSORRT, Place, _options, open_graph
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime

MODELS = Path(__file__).parents[2] / "models"
TORCH = Engine(backend="torch", device="cpu", threads=1)
STATE = np.array([0.1, 0.2, 0.3])
RULES = {0: (0,), 1: (-1, 1), 2: (1, 2)}
FP32, *OTHERS = EXPORTABLE
EACH_PRECISION = [FP32, *(pytest.param(precision, marks=pytest.mark.extended) for precision in OTHERS)]


def engine(precision="fp32", **changes) -> Engine:
    return Engine(**{"backend": "onnxruntime", "device": "cpu", "threads": 1, "precision": precision} | changes)


@pytest.fixture(scope="module", autouse=True)
def converted_once(tmp_path_factory):
    """What int8 quantises is what fp32 has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "write_graph", Conversions(tmp_path_factory.mktemp("converted")).write_graph)
        yield


@pytest.fixture(scope="module")
def info(make_spec, tmp_path_factory):
    """A policy that was exported for any number of patches."""
    torch.manual_seed(4)
    spec = make_spec(use_lora=True, freeze_backbone=True, image_size=96, label_attention_rules=RULES)
    info = save_checkpoint(tmp_path_factory.mktemp("onnx") / "policy", MaskACT(spec))
    export(info.folder, precision="fp32", dynamic=True)
    return info


@pytest.fixture(scope="module")
def exported(info):
    """A function: the same policy, exported in that precision, too."""

    def of(precision):
        if not export_folder(info, precision).exists():
            export(info.folder, precision=precision, dynamic=True)
        return info

    return of


@pytest.fixture
def copied(info, tmp_path):
    """The same, to damage."""
    return CheckpointInfo.read(shutil.copytree(info.folder, tmp_path / "copied"))


@pytest.fixture(scope="module")
def images():
    return list(pictures(96, np.random.default_rng(5)))


def assert_alike(one: CheckpointInfo, other: Engine, images, state, config=None) -> None:
    """Both backends see and do the same, within the tolerances that the export states."""
    allowed = {name: d.tolerance for name, d in Export.read(one, other.precision).differences.items()}
    encoder, seeing = EncoderRuntime.load(one, config, TORCH), EncoderRuntime.load(one, config, other)
    planner, acting = PlannerRuntime.load(one, config, TORCH), PlannerRuntime.load(one, config, other)
    scale = np.array(one.statistics.action.affine("MEAN_STD", feature="action", width=len(state))[1])
    different = []
    for image in images:
        expected = encoder.encode(image, label_image=True, confidence_image=True)
        seen = seeing.encode(image, label_image=True, confidence_image=True)
        largest = np.abs(expected.features).max()
        rounding = 2**-10 * largest  # of a message's half precision
        np.testing.assert_allclose(
            seen.features, expected.features, atol=allowed["encoder.features"] * largest + rounding, rtol=0
        )
        if expected.patch_labels is not None:
            different.append((seen.patch_labels != expected.patch_labels).mean())
            for name in ("patch_confidence", "confidence_image"):
                np.testing.assert_allclose(
                    getattr(seen, name),
                    getattr(expected, name),
                    atol=allowed["mask_head.patch_confidence"] + 2**-10,
                    rtol=0,
                )
            assert (seen.label_image != expected.label_image).mean() <= max(2 * allowed["mask_head.patch_labels"], 0.01)
        chunk = acting.predict(expected.features, expected.patch_labels, state)
        difference = np.abs(chunk - planner.predict(expected.features, expected.patch_labels, state)) / scale
        assert difference.max() <= allowed["planner.actions"]
    if different:
        assert np.mean(different) <= allowed["mask_head.patch_labels"]


@pytest.mark.parametrize("precision", EACH_PRECISION)
def test_it_gives_torchs_numbers_within_the_stated_tolerance(exported, images, precision):
    assert_alike(exported(precision), engine(precision), images, STATE)


@pytest.mark.parametrize("name", ["demo", "demo_action_only"])
@pytest.mark.parametrize("precision", EXPORTABLE)
@pytest.mark.extended
def test_the_shipped_policies_are_the_same_in_every_precision(name, precision, tmp_path):
    shipped = CheckpointInfo.read(shutil.copytree(MODELS / name, tmp_path / name))
    export(shipped.folder, precision=precision)
    centre, _ = shipped.statistics.state.affine("MEAN_STD", feature="state", width=7)
    assert_alike(shipped, engine(precision), pictures(128, np.random.default_rng(6)), np.array(centre))


def test_the_reference_is_reproduced(reference_folder, tmp_path):
    vectors = np.load(REFERENCE / "io.npz")
    imported = import_reference(reference_folder, tmp_path / "checkpoint", REFERENCE / "backbone")
    export(imported.folder, precision="fp32")
    encoding = EncoderRuntime.load(imported, engine=engine()).encode(vectors["image"])
    np.testing.assert_array_equal(encoding.patch_labels, vectors["patch_labels"])
    np.testing.assert_allclose(encoding.features, vectors["features"], rtol=2**-10, atol=1e-4)
    planner = PlannerRuntime.load(imported, engine=engine())
    exact = planner.predict(vectors["features"].astype(np.float16), vectors["patch_labels"], vectors["state"])
    np.testing.assert_allclose(exact, vectors["chunk"], atol=1e-3 * np.ptp(vectors["chunk"]))


@pytest.mark.parametrize("precision", [None, *EACH_PRECISION], ids=lambda p: f"onnxruntime-{p}" if p else "torch")
def test_what_changes_at_run_time_has_the_same_effect_in_every_backend(exported, images, precision):
    chosen = engine(precision) if precision else TORCH
    info = exported(chosen.precision)
    config = replace(info.config, label_attention_rules={0: (1,), 1: (0,)}, mask_importance_weights=(0.1, 9.0, 0.1))
    encoder, planner = EncoderRuntime.load(info, engine=chosen), PlannerRuntime.load(info, engine=chosen)
    labels = np.arange(36, dtype=np.int8) % 3
    before = encoder.encode(images[3])
    chunk = planner.predict(before.features, labels, STATE)
    changed = encoder.with_config(config).encode(images[3])
    other = planner.with_config(config).predict(before.features, labels, STATE)
    assert (changed.patch_labels == 1).mean() > (before.patch_labels == 1).mean()
    assert np.abs(other - chunk).max() > 1e-4

    # As if loaded with it, in torch.
    tolerances = {name: d.tolerance for name, d in Export.read(info, chosen.precision).differences.items()}
    expected = EncoderRuntime.load(info, config, TORCH).encode(images[3])
    assert (changed.patch_labels != expected.patch_labels).mean() <= tolerances["mask_head.patch_labels"]
    scale = np.array(info.statistics.action.affine("MEAN_STD", feature="action", width=3)[1])
    loaded = PlannerRuntime.load(info, config, TORCH).predict(before.features, labels, STATE)
    assert (np.abs(other - loaded) / scale).max() <= tolerances["planner.actions"]

    np.testing.assert_array_equal(planner.predict(before.features, labels, STATE), chunk)
    np.testing.assert_array_equal(encoder.encode(images[3]).patch_labels, before.patch_labels)


@pytest.mark.parametrize("rules", [None, {}, {0: (2,)}], ids=["none", "empty", "one"])
def test_rules_can_be_taken_away(info, rules):
    config = replace(info.config, label_attention_rules=rules)
    features, labels = np.random.default_rng(1).normal(size=(36, 16)).astype(np.float16), np.arange(36) % 3
    chunks = [
        PlannerRuntime.load(info, engine=e).with_config(config).predict(features, labels.astype(np.int8), STATE)
        for e in (TORCH, engine())
    ]
    np.testing.assert_allclose(*chunks, atol=1e-4)


@pytest.mark.parametrize("isolated", [0, 7, 35, 36])
def test_patches_are_dropped_as_in_torch_down_to_the_last(info, isolated):
    config = replace(info.config, label_attention_rules={-1: (-1, 1), 0: (0,), 1: (-1, 1), 2: (1, 2)})
    features = np.random.default_rng(2).normal(size=(36, 16)).astype(np.float16)
    labels = np.where(np.arange(36) < isolated, 0, 1).astype(np.int8)
    planners = [PlannerRuntime.load(info, config, e, drop_isolated=True) for e in (TORCH, engine())]
    np.testing.assert_allclose(*(planner.predict(features, labels, STATE) for planner in planners), atol=1e-4)


def test_an_export_of_all_patches_refuses_fewer(make_spec, tmp_path):
    rules = {-1: (1,), 0: (0,), 1: (1,), 2: (1,)}
    info = save_checkpoint(tmp_path / "policy", MaskACT(make_spec(label_attention_rules=rules)))
    export(info.folder, precision="fp32")
    planner = PlannerRuntime.load(info, engine=engine())
    features, labels = np.zeros((9, 16), np.float16), np.array([0, 1, 1, 1, 1, 1, 1, 1, 1], np.int8)
    assert planner.predict(features, labels, STATE).shape == (6, 3)
    dropping = planner.with_config(info.config, drop_isolated=True)
    with pytest.raises(PolicyError, match=r"8 of 9 patches are left, .* --precision fp32 --dynamic --overwrite"):
        dropping.predict(features, labels, STATE)


def test_features_stay_with_the_library_between_encoder_and_mask_head(info, images):
    perception = OnnxPerception.load(info, engine())
    features = perception.features(images[1])
    assert not isinstance(features, np.ndarray)
    assert features.device_name() == "cpu"
    assert perception.to_numpy(features).shape == (36, 16)


def test_two_threads_may_call_at_once_and_results_share_no_memory(info, images):
    encoder, planner = EncoderRuntime.load(info, engine=engine()), PlannerRuntime.load(info, engine=engine())

    def step(image):
        encoding = encoder.encode(image)
        return encoding.features, planner.predict(encoding.features, encoding.patch_labels, STATE)

    alone = [step(image) for image in images]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(step, images * 20))
    for index, (features, chunk) in enumerate(together):
        np.testing.assert_array_equal(features, alone[index % len(images)][0])
        np.testing.assert_array_equal(chunk, alone[index % len(images)][1])


def test_what_runs_is_said(exported, capfd):
    info = exported("int8")
    capfd.readouterr()  # of the export
    encoder = EncoderRuntime.load(info, engine=engine("int8"))
    encoder.warm_up()
    assert encoder.engine_text == "onnxruntime, int8, CPUExecutionProvider, 1 thread"
    assert PlannerRuntime.load(info, engine=engine(threads=2)).engine_text.endswith("2 threads")
    assert capfd.readouterr() == ("", "")


def test_a_process_that_plans_with_it_never_loads_torch(info):
    code = (
        "import sys; from maskact_ros.core.checkpoint import CheckpointInfo; "
        "from maskact_ros.policy.engine import Engine; "
        "from maskact_ros.policy.runtime import PlannerRuntime; "
        f"info = CheckpointInfo.read({str(info.folder)!r}); "
        "PlannerRuntime.load(info, engine=Engine(backend='onnxruntime')).warm_up(); "
        "print([name for name in ('torch', 'transformers', 'onnx', 'peft') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (shown.stdout.strip(), shown.stderr) == ("[]", "")


def test_without_an_export_the_command_that_makes_it_is_said(make_spec, tmp_path):
    info = save_checkpoint(tmp_path / "my policy", MaskACT(make_spec()))
    with pytest.raises(PolicyError, match=rf"no such export .*: maskact export '{info.folder}' --precision fp16"):
        EncoderRuntime.load(info, engine=engine("fp16"))


def test_an_export_of_other_weights_is_refused(info, copied, make_spec, tmp_path):
    other = save_checkpoint(tmp_path / "other", MaskACT(make_spec(image_size=96)))
    shutil.copytree(info.folder / "onnx", other.folder / "onnx")
    with pytest.raises(
        PolicyError, match=r"is of another checkpoint; make it again with: maskact export .* --overwrite"
    ):
        PlannerRuntime.load(other, engine=engine())


def _truncate(folder):
    path = folder / "planner.onnx"
    path.write_bytes(path.read_bytes()[:-10])


def _misrecord(folder, **changes):
    path = folder / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _externalise(folder):
    """As if a tensor lay in another file."""
    model = onnx.load(folder / "planner.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../../etc/passwd")
    (folder / "planner.onnx").write_bytes(model.SerializeToString())
    _misrecord(folder, files={"planner.onnx": fingerprint(folder / "planner.onnx")})


def _exchange(folder):
    """Another graph of the same export in the planner's place, and vouched for."""
    shutil.copy(folder / "encoder.onnx", folder / "planner.onnx")
    _misrecord(folder, files={"planner.onnx": fingerprint(folder / "planner.onnx")})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "planner.onnx: its content has changed since it was exported"),
        (lambda folder: (folder / "planner.onnx").unlink(), "planner.onnx: cannot be read"),
        (lambda folder: (folder / "export.json").write_text("{"), "export.json: not JSON"),
        (lambda folder: (folder / "export.json").write_text("{}"), "export.json: not the record of an export"),
        (lambda folder: _misrecord(folder, files=3), "export.json: not the record of an export"),
        (lambda folder: _misrecord(folder, differences={"a": 1}), "export.json: not the record of an export"),
        (lambda folder: _misrecord(folder, files={}), "does not say the size and hash of planner.onnx"),
        (lambda folder: _misrecord(folder, precision="int8"), "the export's precision is 'int8'"),
        (lambda folder: _misrecord(folder, patches="36"), "export.json: not the record of an export"),
        (_exchange, "planner.onnx: not the planner that export.json describes"),
        (_externalise, "planner.onnx: wants tensors of other files"),
    ],
)
def test_a_damaged_export_is_one_sentence(copied, damage, words):
    damage(export_folder(copied, "fp32"))
    with pytest.raises(MaskACTError) as error:
        PlannerRuntime.load(copied, engine=engine())
    assert words in str(error.value)


def test_a_graph_that_is_none_is_one_sentence(copied):
    path = export_folder(copied, "fp32") / "planner.onnx"
    path.write_bytes(b"no graph")
    _misrecord(path.parent, files={path.name: fingerprint(path)})
    with pytest.raises(PolicyError, match=r"planner\.onnx: onnxruntime cannot run it"):
        PlannerRuntime.load(copied, engine=engine())


def test_a_missing_onnxruntime_is_one_sentence_that_says_how_to_get_it(info, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PolicyError, match=r'onnxruntime is not installed: pip install "maskact_ros\[onnx\]"'):
        PlannerRuntime.load(info, engine=engine())


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_one_sentence(device):
    with pytest.raises(PolicyError, match="has no CUDAExecutionProvider; pip install"):
        Place.of(engine(device=device), (CPU,))


@pytest.mark.parametrize(
    ("device", "precision", "offered", "place"),
    [
        ("auto", "fp32", (CPU,), Place((CPU,), "cpu", 0)),
        ("auto", "fp32", ("AzureExecutionProvider", CPU), Place((CPU,), "cpu", 0)),
        ("auto", "fp16", (TENSORRT, CUDA, CPU), Place((TENSORRT, CUDA, CPU), "cuda", 0)),
        ("cuda:2", "fp32", (CUDA, CPU), Place((CUDA, CPU), "cuda", 2)),
        ("cuda", "int8", (TENSORRT, CUDA, CPU), Place((CUDA, CPU), "cuda", 0)),
        ("cpu", "fp32", (TENSORRT, CUDA, CPU), Place((CPU,), "cpu", 0)),
    ],
)
def test_the_best_provider_of_the_device_is_taken(device, precision, offered, place):
    assert Place.of(engine(precision, device=device), offered) == place


def test_a_provider_that_cannot_be_loaded_is_said_and_the_next_one_taken(info):
    folder = export_folder(info, "fp32")
    session = open_graph(Export.read(info, "fp32"), folder, "planner", engine(), Place((CUDA, CPU), "cuda", 0))
    assert session.provider == CPU
    assert session.place.device == "cpu"


@pytest.mark.extended
def test_tensorrt_builds_one_engine_for_any_number_of_patches_and_keeps_it(exported, tmp_path):
    info, folder = exported("fp16"), tmp_path / "engines"
    place = Place((TENSORRT, CUDA, CPU), "cuda", 1)
    options = _options(TENSORRT, place, Export.read(info, "fp16"), folder, "planner")
    assert options["trt_profile_min_shapes"] == "features:1x16,patches:1,labels:1"
    assert (
        options["trt_profile_opt_shapes"] == options["trt_profile_max_shapes"] == "features:36x16,patches:36,labels:36"
    )
    assert options["trt_engine_cache_path"] == str(folder)
    assert (options["trt_fp16_enable"], options["device_id"]) == (True, 1)
    assert "trt_profile_min_shapes" not in _options(TENSORRT, place, Export.read(info, "fp16"), folder, "encoder")
