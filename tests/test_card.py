"""What one GPU takes of a configuration, by the CPU's compiler where there is no other; arithmetic by count."""

import json
import math

import pytest
from helpers import TINY, assert_refuses

from mp3net import configuration, describe, hardware, train
from mp3net.aot import card, chips, compiling, gpu_compiler, stablehlo, xla
from mp3net.errors import UsageError, UserError
from mp3net.model.cost import layer_records, training_cost


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.gin"
    path.write_text(TINY + "Architecture.model_blocks = 1\nMP3net.batch_size = 4\n")
    return path


def test_describe_tells_memory_and_arithmetic_of_the_configured_way_and_finds_one_that_fits(
    tiny, tmp_path, capsys, monkeypatch
):
    """By real compilations: recomputation adds arithmetic, micro-batches take memory away, both are in the figures."""

    def told(*flags):
        out = tmp_path / "out.json"
        assert describe.main(["--gin", str(tiny), "--json", str(out), *flags]) == 0
        return json.loads(out.read_text())["gpu"], capsys.readouterr().out

    plain, text = told("--gpu", "24", "--tflops", "1")
    assert plain["fits"] and plain["micro_batch"] == plain["batch"] == 4 and plain["compiled_for"] == "cpu"
    assert "fits 24 GiB, of which 22.1" in text and "mp3net[cpu,jax-cuda]" in text
    expected = plain["iteration_tflop"] * plain["steps"] / 86400
    assert plain["days"] == pytest.approx(expected) and "days at 1 TFLOP/s kept up, which was not measured" in text
    system = configuration.load([str(tiny)], [])[0].system
    # With what kernels take from beyond the edges, which XLA leaves out.
    counted = training_cost(layer_records(system.sizes), 4)
    for update in ("d_step_tflop", "g_step_tflop"):
        assert 0.5 < plain[update] / counted[update] < 3

    def training(*parameters):
        return configuration.load([str(tiny)], list(parameters))[0]

    saving = card.Card(training("MP3net.execution = @Execution()", "Execution.recompute = True"), None, print)
    assert saving.tflop()[0] > 1.1 * plain["d_step_tflop"]
    small = card.Card(training("train.micro_batch = 1"), None, print)
    parts = small.account(small.way())
    assert small.way().batch == 1 and parts["temporaries_gib"] < 0.8 * plain["temporaries_gib"]
    assert small.tflop()[0] == pytest.approx(plain["d_step_tflop"], rel=0.3)

    short = (plain["hbm_gib"] + parts["hbm_gib"]) / 2 / 0.92
    found, text = told("--gpu", f"{short:.9f}")
    assert not found["fits"] and found["would_fit"]["hbm_gib"] <= 0.92 * short
    assert found["would_fit"]["set"]["train.micro_batch"] in (1, 2) and "with " in text and "cached" in text
    monkeypatch.setattr(card.Card, "account", lambda self, way: plain | {"fits": False})
    found, text = told("--gpu", "1e-6")
    assert found["would_fit"] is None and "whatever was tried: take a larger card" in text


def test_several_cards_share_the_batch(tiny, monkeypatch):
    monkeypatch.setattr(compiling, "gpu_target", lambda: "cpu")
    training = configuration.load([str(tiny)], [])[0]
    assert card.Card(training, 24, print, devices=2).way().batch == 2
    with pytest.raises(UserError, match="batch_size is 4"):
        card.Card(training, 24, print, devices=3)
    counts = []
    monkeypatch.setattr(card, "report", lambda *_, devices, **__: counts.append(devices))
    monkeypatch.setattr(card, "lines", lambda report: [])
    for device in ("jax:gpu", "jax:gpu:4", "cpu", None):
        options = type("Options", (), {"gpu": "24", "tflops": None, "device": device})
        describe.gpu_cost(training, options)
    assert counts == [1, 4, 1, 1]


def test_train_takes_gpu_for_a_dry_run_alone(tiny):
    assert_refuses(train.main, ["--gin", tiny, "--data", ".", "--workdir", "x", "--gpu", "24"], UsageError, "--dry_run")


def test_changes_are_tried_the_least_first(tiny, monkeypatch):
    monkeypatch.setattr(compiling, "gpu_target", lambda: "h100")
    training = configuration.load([str(tiny)], [])[0]
    gpu = card.Card(training, 24, lambda line: None)
    tried = [card.text_of(bindings) for bindings, _ in card.changes(gpu, gpu.way())]
    half = "MP3net.execution = @Execution(), Execution.precision = 'bfloat16'"
    assert tried == [
        half, f"{half}, Execution.recompute = True", f"{half}, train.micro_batch = 2", f"{half}, train.micro_batch = 1",
        f"{half}, Execution.recompute = True, train.micro_batch = 1",
    ]  # fmt: skip
    for bindings, way in card.changes(gpu, gpu.way()):
        assert way.execution.precision == bindings["Execution.precision"] and way.batch * way.parts == 4
        assert way.execution.recompute == bindings.get("Execution.recompute", False)


def test_the_memory_is_that_of_a_program_whose_sizes_are_known():
    """Two matrices of 4 MiB each are multiplied: 2 x 1024^3 FLOP."""
    matrix = "tensor<1024x1024xf32>"
    text = (
        f"module @step {{\n func.func @main(%arg0: {matrix}, %arg1: {matrix}) -> {matrix} {{\n"
        f"  %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0] : ({matrix}, {matrix}) -> {matrix}\n"
        f"  return %0 : {matrix}\n }}\n}}"
    )
    assert xla.arithmetic(text) == 2 * 1024**3
    memory = gpu_compiler.memory(xla.load(text, gpu_compiler.device("cpu")))
    assert memory["arguments_gib"] == 8 / 1024 and memory["outputs_gib"] == 4 / 1024 and not memory["aliased_gib"]
    assert stablehlo.results(text) == [([1024, 1024], "f32")]


def test_the_best_compiler_that_there_is_is_taken(monkeypatch):
    monkeypatch.setattr(compiling, "_version", lambda package: None)
    assert compiling.gpu_target() == "cpu"
    monkeypatch.setattr(compiling, "_version", lambda package: "0.10.2")
    monkeypatch.setattr(hardware, "nvidia_gpus", list)
    assert compiling.gpu_target() == "h100"
    monkeypatch.setattr(hardware, "nvidia_gpus", lambda: ["/dev/nvidia0"])
    assert compiling.gpu_target() == "here"
    assert math.isinf(chips.gpu(float("inf"), "").chip.hbm_gib) and chips.gpu(100, "").chip.hbm_gib == 92


def test_the_cards_memory_is_its_drivers_word(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.gpu_gib() is None and describe.gpu_here() == "any"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '24576\\n16384\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert hardware.gpu_gib() == 16 and describe.gpu_here() == "16"


@pytest.mark.parametrize("flags", [("--gpu", "0"), ("--gpu", "big"), ("--gpu", "nan"), ("--tflops", "5")])
def test_sizes_and_rates_that_are_none_are_refused(tiny, flags):
    assert_refuses(describe.main, ["--gin", tiny, *flags], UsageError, "such as --gpu 24")


def test_without_jax_the_fix_is_told(monkeypatch):
    def missing(package):
        raise compiling.importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(compiling.importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"mp3net\[cpu,jax-cuda\]"):
        compiling.versions(compiling.GPU)
