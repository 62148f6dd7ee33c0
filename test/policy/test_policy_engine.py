"""What runs a policy: engines that exist, what they say of themselves, and how far other precisions are off."""

import numpy as np
import pytest
import torch

from maskact_ros.policy.deploy.torch_place import TorchPlace
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime

BFLOAT16_TOLERANCE = 0.03  # of the largest value: eight bits a number, through a few layers


@pytest.fixture(scope="module")
def info(make_spec, tmp_path_factory):
    torch.manual_seed(8)
    spec = make_spec(image_size=112, label_attention_rules={"0": [0], "1": [-1, 1]}, n_encoder_layers=2)
    return save_checkpoint(tmp_path_factory.mktemp("engine") / "checkpoint", MaskACT(spec))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backend": "jax"}, "backend is 'jax'; allowed: auto, torch, onnxruntime"),
        ({"precision": "fp8"}, "precision is 'fp8'; allowed: fp32, bf16, fp16, int8"),
        ({"backend": "torch", "precision": "int8"}, "precision is 'int8' with the backend torch; allowed: fp32, bf16"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "with the backend onnxruntime; allowed: fp32, fp16, int8"),
        ({"backend": "torch", "precision": "fp16", "device": "cpu"}, "torch on a cpu; allowed: fp32, bf16"),
        ({"threads": -1}, "threads is -1; allowed: a number from 0 to 1024"),
        ({"threads": 10**6}, "threads is 1000000; allowed: a number from 0 to 1024"),
        *(
            ({"device": device}, f"device is {device!r}; allowed: auto, cpu, cuda, cuda:N")
            for device in ("", "CPU", "cpu:1", "meta", "toaster", "cuda:", "cuda:x", "cuda:-1", "cuda:1\n", "cuda:9999")
        ),
    ],
)
def test_an_engine_that_does_not_exist_is_one_sentence(values, words):
    with pytest.raises(PolicyError) as error:
        Engine(**values)
    assert words in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="half precision works on a GPU")
def test_half_precision_without_a_gpu_is_one_sentence(info):
    with pytest.raises(PolicyError, match="allowed: fp32, bf16"):
        PlannerRuntime.load(info, engine=Engine(backend="torch", precision="fp16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto takes the GPU")
@pytest.mark.parametrize(
    ("values", "words"),
    [({"precision": "int8"}, "--precision int8"), ({"precision": "fp16"}, "--precision fp16")],
)
def test_what_torch_cannot_compute_here_is_for_onnxruntime(info, values, words):
    pytest.importorskip("onnxruntime")
    with pytest.raises(PolicyError, match=f"make it with: maskact export .* {words}"):
        PlannerRuntime.load(info, engine=Engine(**values))


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto takes the GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_cpu_torch_is_taken(info, precision):
    assert PlannerRuntime.load(info, engine=Engine(precision=precision)).engine_text.startswith(f"torch, {precision}")


def test_the_engine_says_what_it_is(info):
    before = torch.get_num_threads()
    try:
        engine = Engine(backend="torch", precision="bf16", device="cpu", threads=1)
        said = "torch, bf16, cpu, 1 thread"
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            said += ", bfloat16 emulated, many times as slow as fp32"
        assert EncoderRuntime.load(info, engine=engine).engine_text == said
        engine = Engine(backend="torch", device="cpu", threads=2)
        assert PlannerRuntime.load(info, engine=engine).engine_text == "torch, fp32, cpu, 2 threads"
    finally:
        torch.set_num_threads(before)


def test_bfloat16_gives_nearly_the_same(info):
    exact, rough = Engine(backend="torch", device="cpu"), Engine(backend="torch", precision="bf16", device="cpu")
    image = np.random.default_rng(9).integers(0, 256, (112, 112, 3), np.uint8)
    expected = EncoderRuntime.load(info, engine=exact).encode(image, confidence_image=True)
    found = EncoderRuntime.load(info, engine=rough).encode(image, confidence_image=True)
    assert_near(found.features, expected.features)
    assert_near(found.confidence_image, expected.confidence_image)
    assert found.features.dtype == expected.features.dtype

    state = np.array([0.1, 0.2, 0.3])
    for kept in (49, 48):  # an odd number of tokens, and an even one
        labels = np.where(np.arange(49) < kept, expected.patch_labels, 2).astype(np.int8)
        chunk = PlannerRuntime.load(info, engine=exact).predict(expected.features, labels, state)
        assert_near(PlannerRuntime.load(info, engine=rough).predict(expected.features, labels, state), chunk)


def test_a_gpu_that_cannot_record_graphs_runs_without_and_says_so(info, monkeypatch):
    place = TorchPlace(Engine(device="cpu"))
    monkeypatch.setattr("torch.cuda.device", unable)
    module = torch.nn.Identity()
    module.compute_in = lambda precision: None
    place.device = torch.device("cuda")
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_: tensor)
    monkeypatch.setattr(torch.nn.Module, "to", lambda own, *_: own)
    assert place.prepare(module, torch.zeros(1)) is module
    assert "without CUDA graphs (out of memory)" in place.text


def unable(device):
    raise RuntimeError("out of\nmemory")


def assert_near(found, expected):
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    assert np.abs(found - expected).max() <= BFLOAT16_TOLERANCE * np.abs(expected).max()
    assert (found != expected).any()
