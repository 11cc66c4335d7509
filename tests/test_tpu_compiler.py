"""mp3net/aot with the TPU's compiler, and the GPU benchmark on a CPU: they need jax, and libtpu, but no device."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from helpers import TINY, command

from mp3net.aot import chips, compiling, stablehlo

ROOT = pathlib.Path(__file__).resolve().parent.parent

if os.environ.get("MP3NET_REQUIRE_ALL") != "1":
    for package in ("jax", "libtpu"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package missing: {package}: pip install 'mp3net[aot]'", allow_module_level=True)


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Compiles text for a topology, without the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda text, topology="v2:2x2": compiling.compiled(text, topology, "toy", print)


def product(integers="i32", size=1024, times=1):
    """A matrix product, `times` in a loop or once, beside a sum of eight integers."""
    square, eight, count = f"tensor<{size}x{size}xf32>", f"tensor<8x{integers}>", "tensor<i32>"
    dot = f"stablehlo.dot_general {{}}, %arg1, contracting_dims = [1] x [0] : ({square}, {square}) -> {square}"
    loop = f"""
      %zero = stablehlo.constant dense<0> : {count}
      %one = stablehlo.constant dense<1> : {count}
      %last = stablehlo.constant dense<{times}> : {count}
      %n, %y = stablehlo.while(%i = %zero, %z = %arg1) : {count}, {square}
      cond {{
        %go = stablehlo.compare LT, %i, %last : ({count}, {count}) -> tensor<i1>
        stablehlo.return %go : tensor<i1>
      }} do {{
        %next = stablehlo.add %i, %one : {count}
        %power = {dot.format("%z")}
        stablehlo.return %next, %power : {count}, {square}
      }}"""
    return f"""module @step {{
    func.func public @main(%arg0: {eight}, %arg1: {square}) -> ({square}, {eight}) {{
      {loop if times > 1 else f"%y = {dot.format('%arg1')}"}
      %b = stablehlo.add %arg0, %arg0 : {eight}
      return %y, %b : {square}, {eight}
    }}
    }}"""


def test_integers_of_64_bits_do_not_upset_the_estimate(compiled):
    short, long = compiled(product("i32")), compiled(product("i64"))
    assert 0 < short["estimate_s"] < 1e-3
    assert long["estimate_s"] == pytest.approx(short["estimate_s"], rel=0.05)
    assert short["tflop"] == pytest.approx(2 * 1024**3 / 1e12, rel=0.01)
    assert short["arguments_gib"] == pytest.approx(4 / 1024, rel=0.01)


def test_a_loop_is_counted_once_whatever_its_length(compiled):
    """What report.py multiplies by the number of micro-batches."""
    found = [compiled(product(times=times))["tflop"] for times in (1, 2, 50)]
    assert found == pytest.approx([found[0]] * 3, rel=0.01)


CHIPS = sorted({machine.chip for machine in chips.MACHINES.values()}, key=lambda chip: chip.kind)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.kind)
def test_the_compiler_has_the_memory_and_the_speed_that_chips_say(compiled, chip):
    refused = compiled(product(size=2**18), chip.topology)
    assert not refused["fits"] and refused["hbm_gib"] == chip.hbm_gib and refused["wanted_gib"] > 100
    # A large product runs at the peak: a core of two, or a chip of the wrong kind, would be off by half.
    found = compiled(product(size=8192).replace("f32", "bf16"), chip.topology)
    assert found["tflop"] / found["estimate_s"] == pytest.approx(chip.bf16_tflops, rel=0.15)


def test_unused_arguments_take_their_memory(compiled):
    text = stablehlo.with_unused(product(), [((256, 1024, 1024), "f32")])
    assert compiled(text)["arguments_gib"] == pytest.approx(1.0, rel=0.01)
    text = stablehlo.with_unused(product(), [((1024, 1024, 1024), "f32"), ((900, 1024, 1024), "f32")])
    assert compiled(text)["fits"] is False


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """`describe --gin demo --tpu v2-8 --json`, with a cache of its own: (what it printed, the JSON, a second run)."""
    folder = tmp_path_factory.mktemp("described")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    runs = []
    for name in ("first.json", "second.json"):
        process = command("describe", "--gin", "demo", "--tpu", "v2-8", "--json", folder / name, env=environment)
        assert process.returncode == 0, process.stderr
        runs.append((process.stdout, json.loads((folder / name).read_text())))
    return runs


def test_describe_tells_what_a_step_takes_on_a_tpu(described):
    said, found = described[0]
    tpu, counted = found["tpu"], found["training_step"]
    assert (tpu["topology"], tpu["compiled_for"], tpu["devices"], tpu["batch_per_device"]) == ("v2-8", "v2:2x2", 8, 1)
    assert tpu["fits"] and 0.03 < tpu["hbm_gib"] < 0.2 and tpu["hbm_there_gib"] == 7.48
    for update in ("d_step", "g_step"):
        assert 8 * tpu[update]["tflop"] == pytest.approx(counted[f"{update}_tflop"], rel=0.25)
        assert 0 < tpu[update]["temporaries_gib"] < 0.1 and tpu[update]["gb_moved"] > 0.05
        # The compiler expects no better than the bound, and at this size no worse than twice that.
        assert tpu[update]["roofline_s"] * 0.9 < tpu[update]["estimate_s"] < tpu[update]["roofline_s"] * 2
    assert tpu["iteration_s"] == tpu["d_step"]["estimate_s"] + tpu["g_step"]["estimate_s"] / 2
    assert tpu["days"] == pytest.approx(600 * tpu["iteration_s"] / 86400)
    assert "D update, batch 1: fits, compiled in" in said and "fits: " in said and "nothing was run on a TPU" in said


def test_a_second_call_is_served_from_the_cache(described):
    said, found = described[1]
    assert "D update, batch 1: fits, cached" in said and "G update, batch 1: fits, cached" in said
    assert "compiled in" not in said and "compiling" not in said
    assert found == described[0][1]


def test_the_gpu_benchmark_times_both_updates(tmp_path):
    gin, folder = tmp_path / "tiny.gin", tmp_path / "step"
    gin.write_text(TINY + "Architecture.model_blocks = 1\n")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}

    def benchmark(script, *arguments):
        line = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.run(
            line, capture_output=True, text=True, timeout=240, check=False, env=environment, cwd=tmp_path
        )

    exported = benchmark(ROOT / "benchmarks" / "gpu.py", "--export", folder, "--gin", gin, "--batch", 3)
    assert exported.returncode == 0, exported.stderr
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not on that machine')")
    environment["PYTHONPATH"] = str(tmp_path)
    timed = benchmark(folder / "gpu.py", "--time", folder, "--rounds", 3)
    assert timed.returncode == 0, timed.stderr
    found = json.loads((folder / "time.json").read_text())
    assert found["batch"] == 3 and found["precision"] == "float32"
    for update in ("d_step", "g_step"):
        each = found[update]
        assert each["finite"] and each["device"] == "cpu" and 0 < each["seconds"] < 10 and each["memory_gib"] > 0.1
        assert 0 < each["tflop"] / each["seconds"] < each["peak_tflops"]
    assert found["d_iterations_per_second"] == pytest.approx(
        1 / (found["d_step"]["seconds"] + found["g_step"]["seconds"] / 2)
    )
    assert "| D update |" in timed.stdout and "| G update |" in timed.stdout
