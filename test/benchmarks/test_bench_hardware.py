"""The hardware benchmark, as a user runs it, on matrices small enough for a test."""

import json

import pytest
import torch

from maskact_ros.cli import main
from maskact_ros.tools.bench.gemm import Gemm, reachable

SMALL = ["--rounds", "2", "--size", "64", "--memory-mib", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("hardware") / "hardware.json"
    with pytest.raises(SystemExit) as ended:
        main(["bench", "hardware", *SMALL, "--out", str(out)])
    assert ended.value.code == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_single_precision_and_memory_are_there_on_every_machine(result):
    limits = result["hardware"]
    assert limits["gemm_gflops"]["fp32"] > 0
    assert limits["memory_gb_s"] > 0
    assert limits["memory_copy_gb_s"] > 0
    assert limits["threads"] == torch.get_num_threads()
    assert result["complete"]


def test_a_precision_has_a_figure_where_the_processor_computes_it_itself_and_none_else(result):
    limits = result["hardware"]
    assert set(limits["gemm_gflops"]) == {"fp32", "bf16", "fp16", "int8"}
    for precision, gflops in limits["gemm_gflops"].items():
        assert (gflops is not None) == reachable(precision, torch.device("cpu"))
        if gflops is not None:
            by_threads = limits["gemm_gflops_by_threads"][precision]
            assert "1" in by_threads
            assert by_threads[str(limits["threads"])] == gflops


def test_the_machine_says_what_figures_of_speed_depend_on(result):
    machine = result["machine"]
    assert machine["torch"] == torch.__version__
    assert machine["cores"] >= 1
    assert machine["threads"] >= 1
    assert machine["gpu"]


def test_a_product_with_fewer_threads_leaves_their_number_as_it_was():
    before = torch.get_num_threads()
    Gemm("fp32", size=32, threads=before + 1)()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("--rounds", "0", "1 to 100000"),
        ("--size", "8", "64 to 16384"),
        ("--size", "100", "a multiple of 16"),
        ("--memory-mib", "0", "1 to 65536"),
        ("--out", "no/such/folder/x.json", "a file in a folder that exists"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_before_anything_is_measured(flag, value, allowed, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "hardware", flag, value])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"maskact bench: {flag} is {value}; allowed: {allowed}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "hardware", "--device", "cuda"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "maskact bench: --device is cuda, which torch cannot use here; allowed: auto, cpu\n"
    )
