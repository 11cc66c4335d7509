"""mp3net/aot without the TPU's compiler: chips, text, cache, reports; what the compiler says is made up here."""

import json
import math
import pathlib
import re
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from helpers import TINY, assert_told, command

from mp3net import configuration, describe
from mp3net.aot import cache, chips, compiling, fitting, lowering, report, stablehlo, tpu_compiler, wording
from mp3net.errors import UsageError, UserError
from mp3net.model.execution import Execution
from mp3net.stage import Place

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "benchmarks"))
import tpu as tpu_benchmark

GIB = 2**30
SMALL = TINY + "Architecture.model_blocks = 1\n"


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.gin"
    path.write_text(SMALL)
    return path


def training(gin, *parameters):
    return configuration.load([str(gin)], list(parameters))[0]


# Chips


@pytest.mark.parametrize(
    "name, tflop, gb_moved, seconds",
    [
        ("v2-8", 45.0, 350.0, 2.0),  # a core: 45 of the chip's 2, 700 GB/s
        ("v2-8", 4.5, 700.0, 2.0),
        ("v3-8", 123.0, 450.0, 2.0),
        ("v4-8", 275.0, 614.0, 1.0),  # a chip: both cores
        ("v5e-1", 19.7, 819.0, 1.0),
        ("v6e-8", 459.0, 820.0, 0.5),
    ],
)
def test_the_roofline_is_the_longer_of_arithmetic_and_traffic(name, tflop, gb_moved, seconds):
    assert chips.find(name).chip.roofline_s(tflop, gb_moved) == pytest.approx(seconds)


def test_every_machine_divides_a_batch_among_its_devices():
    devices = {name: machine.devices for name, machine in chips.MACHINES.items()}
    assert devices == {"v2-8": 8, "v3-8": 8, "v4-8": 4, "v5e-1": 1, "v5e-8": 8, "v6e-1": 1, "v6e-8": 8}
    assert [chips.find(name).share(64) for name in ("v2-8", "v4-8", "v6e-1")] == [8, 16, 64]
    with pytest.raises(UserError, match="MP3net.batch_size is 12, and v2-8 has 8 cores: make it a multiple of 8"):
        chips.find("v2-8").share(12)


def test_an_unknown_tpu_is_told_with_the_known_ones():
    with pytest.raises(UsageError, match="There is no TPU v9-8") as told:
        chips.find("v9-8")
    assert all(name in str(told.value) for name in chips.MACHINES)
    assert_told(command("describe", "--gin", "demo", "--tpu", "v9-8"), 2, "v9-8", "v2-8, v3-8")
    assert_told(command("describe", "--gin", "demo", "--largest_batch"), 2, "--tpu")


# StableHLO

TEXT = """#loc1 = loc("XLA_Args")
#loc2 = loc("a(b)c"("/home/somebody/file.py":10:2))
module @a_inference_d_17__.3 attributes {mhlo.input_output_alias = [{alias = {kind = "may_alias", \
parameter_index = array<i64>, parameter_number = 2 : i64}, output_index = array<i64: 1>}]} {
  func.func private @region_0.1(%arg0: tensor<f32> loc("x(y")) -> tensor<f32> {
    return %arg0 : tensor<f32> loc(#loc)
  } loc(#loc)
  func.func public @main(%arg0: tensor<2x3xbf16> loc("XLA_Args"), %arg1: tensor<i64> loc(#loc1), \
%arg2: tensor<5xf32> loc("n"("f.py":1:2))) -> (tensor<2x3xbf16>, tensor<5xf32>) {
    %0 = mhlo.copy %arg0 : tensor<2x3xbf16> loc(#loc2)
    %1 = call @region_0.1(%2) : (tensor<f32>) -> tensor<f32> loc(callsite("a"("b":1:1) at "c"("d":2:2)))
    return %0, %arg2 : tensor<2x3xbf16>, tensor<5xf32> loc(#loc2)
  } loc(#loc)
} loc(#loc)
"""


def test_plain_text_says_nothing_of_where_and_when_it_was_traced():
    text = stablehlo.plain(TEXT)
    assert "loc" not in text and "mhlo.copy" not in text and "somebody" not in text
    assert "%0 = stablehlo.reshape %arg0 : (tensor<2x3xbf16>) -> tensor<2x3xbf16>\n" in text
    assert "call @part0(%2) : (tensor<f32>) -> tensor<f32>\n" in text and "@part0(%arg0: tensor<f32>) ->" in text
    later = TEXT.replace("a_inference_d_17__.3", "a_inference_d_99__.7").replace("region_0.1", "region_8.2")
    assert later != TEXT and stablehlo.plain(later.replace("somebody", "another")) == text


def test_arguments_and_aliases_are_read_and_more_arguments_written():
    text = stablehlo.plain(TEXT)
    assert stablehlo.arguments(text) == [([2, 3], "bf16"), ([], "i64"), ([5], "f32")]
    assert stablehlo.aliases(text) == {1: 2}
    more = stablehlo.with_unused(text, [((7,), "f32"), ((), "i64")])
    assert stablehlo.arguments(more)[3:] == [([7], "f32"), ([], "i64")]
    assert more.replace(", %arg3: tensor<7xf32>, %arg4: tensor<i64>", "") == text != more


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    """A tiny system with an average, its updates lowered for a TPU at batch 3."""
    path = tmp_path_factory.mktemp("lowered") / "tiny.gin"
    path.write_text(SMALL)
    system = training(path, "MP3net.average_decay = 0.9").system.build(Place("TPU", xla=True))
    stage = system.stages(12)[0]
    return system, stage, lowering.lower(system, stage, 3)


def test_a_step_is_lowered_with_its_variables_as_arguments(lowered):
    system, _, programs = lowered
    assert list(programs) == ["d_step", "g_step"]
    for update, program in programs.items():
        arguments = stablehlo.arguments(program.text)
        assert not re.search(r"loc\(|#loc|mhlo\.copy", program.text)
        assert len(arguments) == program.inputs + len(program.variables)
        for (shape, dtype), variable in zip(arguments[program.inputs :], program.variables, strict=True):
            assert (tuple(shape), dtype) == lowering.tensor_type(variable)
        assert arguments[: program.inputs][-1] == ([3], "i64")
        trained = system.discriminator if update == "d_step" else system.generator
        changed = {
            program.variables[argument - program.inputs].ref() for argument in stablehlo.aliases(program.text).values()
        }
        assert {variable.ref() for variable in trained.trainable_variables} <= changed
        own = {variable.ref() for variable in (*program.variables, *program.others)}
        assert own == {variable.ref() for variable in lowering.variables(system)}
    assert stablehlo.arguments(programs["d_step"].text)[0] == ([3, 8, 4, 2], "f32")


def test_a_round_is_lowered_as_one_program_that_takes_all_its_batches(lowered):
    system, stage, _ = lowered
    program = lowering.lower(system, stage, 4, parts=2, updates=(lowering.ROUND,))[lowering.ROUND]
    assert stablehlo.arguments(program.text)[: program.inputs] == [([2, 4, 8, 4, 2], "f32"), ([2, 4], "i64")]
    assert program.batches == 2 and not program.others
    changed = {
        program.variables[argument - program.inputs].ref() for argument in stablehlo.aliases(program.text).values()
    }
    assert changed == {variable.ref() for variable in lowering.variables(system)}


def test_the_state_is_both_networks_their_moments_and_the_average(lowered):
    system = lowered[0]
    weights = {
        name: sum(v.shape.num_elements() for v in getattr(system, name).trainable_variables)
        for name in ("generator", "discriminator")
    }
    counters = 2 * 8
    assert lowering.state_bytes(system) == 4 * (4 * weights["generator"] + 3 * weights["discriminator"]) + counters


@pytest.mark.parametrize("platform", ["TPU", "GPU"])
def test_lowering_is_exact_repeatable_and_leaves_no_setting_behind(tiny, platform):
    tf.config.experimental.enable_tensor_float_32_execution(True)  # as it is before any command has run
    system = training(tiny).system.build(Place(platform, xla=True))
    stage = system.stages(12)[0]
    text, again = (lowering.lower(system, stage, 2, updates=("g_step",))["g_step"].text for _ in range(2))
    assert "HIGHEST" in text and "DEFAULT" not in text
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    assert text == again


# The cache, and the compiler's process


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "versions", lambda *_: {"jax": "1", "libtpu": "2"})
    return tmp_path / "cache" / "mp3net" / "aot"


def test_a_result_depends_on_program_chip_and_compiler():
    versions = {"jax": "1", "libtpu": "2"}
    keys = {
        cache.key("text", "v2", versions), cache.key("texts", "v2", versions), cache.key("text", "v3", versions),
        cache.key("text", "v2", {"jax": "1", "libtpu": "3"}),
    }  # fmt: skip
    assert len(keys) == 4 and cache.key("text", "v2", dict(reversed(versions.items()))) in keys


def test_what_was_compiled_is_not_compiled_again(cache_folder, monkeypatch):
    runs, said = [], []
    monkeypatch.setattr(compiling, "_run", lambda *_: runs.append(1) or {"fits": True, "tflop": 2.5})

    def compiled(text="text"):
        return compiling.compiled(text, "v2:2x2", "D update", said.append)

    assert compiled() == compiled() == {"fits": True, "tflop": 2.5}
    assert len(runs) == 1 and said == ["D update: fits, compiled in 0 s", "D update: fits, cached"]
    compiled("another text")
    assert len(runs) == 2
    files = sorted(cache_folder.iterdir())
    assert len(files) == 2 and all(file.suffix == ".json" for file in files)
    for damage in ("", '{"fits": tr', "[1, 2]", "{}"):
        for file in files:
            file.write_text(damage)
        before = len(runs)
        assert compiled()["tflop"] == 2.5 and len(runs) == before + 1, damage


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.write("name", {"fits": True})
    assert cache.read("name") is None


DEFECT = "INTERNAL: RET_CHECK failure (hlo_instruction.cc:463) prev_op->IsAsynchronous()"


def run_python(script, log=lambda line: None):
    return compiling._run([sys.executable, "-c", script], "D update", "v2:2x2", log)


def test_a_compilation_tells_how_long_it_goes_on_and_what_went_wrong(cache_folder, monkeypatch):
    said = []
    monkeypatch.setattr(compiling, "_TELL_EVERY_S", 0.3)
    assert run_python("import time; time.sleep(1.6); print('{\"fits\": true}')", said.append) == {"fits": True}
    assert said[0] == "D update: compiling for v2:2x2, 0 s" and "D update: compiling for v2:2x2, 1 s" in said
    with pytest.raises(UserError, match=r"D update: the compiler for v2:2x2 \(jax 1, libtpu 2\) failed: no such thing"):
        run_python("raise SystemExit('no such thing')")
    with pytest.raises(UserError, match="ValueError: first line"):
        run_python("print('{}'); raise ValueError('first line\\nSee elsewhere')")
    with pytest.raises(UserError, match="was killed: most likely the machine has too little memory"):
        run_python("import os; os.kill(os.getpid(), 9)")
    assert run_python(f"raise SystemExit('jax.errors.JaxRuntimeError: {DEFECT}.')") == {
        "fits": False, "wanted_gib": None, "defect": f"jax.errors.JaxRuntimeError: {DEFECT}",
    }  # fmt: skip


def test_the_compiler_ends_with_the_process_that_asked():
    """However that one ends: a compilation may have minutes before it."""
    child = (
        "import os, threading, time; from mp3net.aot import tpu_compiler as t; "
        "threading.Thread(target=t.end_with, args=(os.getppid(),), daemon=True).start(); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    script = f"import subprocess, time; subprocess.Popen([{sys.executable!r}, '-c', {child!r}]); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as asker:
        compiler = pathlib.Path("/proc", asker.stdout.readline().strip())
        assert compiler.exists()
        asker.kill()
    deadline = time.monotonic() + 10
    while compiler.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not compiler.exists()


def test_a_missing_compiler_is_told_before_anything_is_built(monkeypatch):
    def missing(name):
        raise compiling.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(compiling.importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"pip install 'mp3net\[cpu,aot\]'"):
        describe.main(["--gin", "demo", "--tpu", "v2-8"])


# What the compiler prints


def test_the_refusal_of_a_program_that_does_not_fit_is_read():
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries ({}) exceeds available HBM (7.48G). HLO module: m."
    )
    found = tpu_compiler.out_of_memory(message.format("15.15G"))
    assert found == {"fits": False, "wanted_gib": 15.15, "hbm_gib": 7.48}
    assert tpu_compiler.out_of_memory(message.format("2.00T"))["wanted_gib"] == 2048
    assert tpu_compiler.out_of_memory("INVALID_ARGUMENT: no such operation") is None


def test_calls_that_the_compiler_counts_as_minus_a_second_are_put_right():
    targets = ("X64SplitLow", "X64SplitHigh", "TopK", "X64Combine", "ConcatBitcast")
    hlo = "\n".join(f'%c = u32[2] custom-call(%a), custom_call_target="{target}"' for target in targets)
    assert tpu_compiler.estimate_s(-3.75, hlo) == pytest.approx(0.25)
    assert tpu_compiler.estimate_s(0.25, "") == 0.25
    assert tpu_compiler.estimate_s(-4.0, hlo) is None and tpu_compiler.estimate_s(None, hlo) is None


# Reports

COMPILED = {
    "fits": True, "temporaries_gib": 2.0, "arguments_gib": 1.0, "outputs_gib": 0.7, "aliased_gib": 0.5, "tflop": 2.25,
    "gb_moved": 70.0, "estimate_s": 0.25,
}  # fmt: skip


@pytest.fixture
def nothing_traced(monkeypatch):
    """Has every update be that of TEXT, where a test does not look into it."""
    program = lowering.Program(stablehlo.plain(TEXT), 2, 1, (), ())
    monkeypatch.setattr(report, "lower", lambda *given: dict.fromkeys(given[-1], program))


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that says COMPILED, or what the test answers for a title; it notes what it was given."""

    class Compiler:
        given, answers = [], {}

        def __call__(self, text, topology, title, log):
            self.given.append((text, topology, title))
            return next((found for start, found in self.answers.items() if title.startswith(start)), COMPILED)

    made = Compiler()
    monkeypatch.setattr(compiling, "compiled", made)
    monkeypatch.setattr(compiling, "versions", lambda *_: {"jax": "1", "libtpu": "2"})
    return made


def test_a_report_is_of_one_devices_share_and_of_the_whole_run(tiny, compiler):
    compiler.given.clear()
    compiler.answers = {"G update": COMPILED | {"temporaries_gib": 1.0, "estimate_s": 0.1}}
    trained = training(tiny, "MP3net.batch_size = 16", "train.steps = 86400")
    steps = report.Steps(trained, chips.find("v2-8"), lambda line: None)
    found = report.report(steps, steps.way())
    assert (found["topology"], found["compiled_for"]) == ("v2-8", "v2:2x2")
    assert (found["devices"], found["batch_per_device"]) == (8, 2)
    assert found["fits"] and found["hbm_gib"] == pytest.approx(3.2, abs=1e-3) and found["hbm_there_gib"] == 7.48
    assert found["d_step"]["roofline_s"] == pytest.approx(0.2) and found["d_step"]["temporaries_gib"] == 2.0
    assert found["iteration_s"] == pytest.approx(0.3) and found["days"] == pytest.approx(0.3)
    assert found["roofline_iteration_s"] == found["roofline_days"] == pytest.approx(0.3)
    json.dumps(found)
    (text, topology, title), _ = compiler.given
    assert topology == "v2:2x2" and title == "D update, batch 2"
    # All state, the batch, and the batches of a round's other D updates: nothing that stands in memory is left out.
    sizes = [math.prod(shape) * {"f32": 4, "i64": 8}[dtype] for shape, dtype in stablehlo.arguments(text)]
    assert sum(sizes) == steps.state_gib * GIB + 2 * (2 * 8 * 4 * 2 * 4) + 2 * 8


def test_the_data_of_two_calls_stand_in_memory_too(tiny, compiler, nothing_traced):
    """As training holds them: 64 MiB a call by default, where that is a round or more."""
    parameters = ("MP3net.batch_size = 512", "Architecture.base = (512, 32)")  # 1 MiB an example
    steps = report.Steps(training(tiny, *parameters), chips.find("v2-8"), lambda line: None)
    found = steps.figures(steps.way(), ("g_step",))["g_step"]
    round_gib = 2 * 64 * 2**20 / GIB  # two D updates, 64 examples
    assert found["hbm_gib"] == pytest.approx(3.2 + round_gib)  # one round a call: two, of which the program counts one
    steps = report.Steps(
        training(tiny, *parameters, "train.rounds_per_call = 3"), chips.find("v2-8"), lambda line: None
    )
    assert steps.figures(steps.way(), ("g_step",))["g_step"]["hbm_gib"] == pytest.approx(3.2 + 5 * round_gib)
    steps = report.Steps(
        training(tiny, *parameters, "train.rounds_per_call = 40"), chips.find("v2-8"), lambda line: None
    )
    found = steps.figures(steps.way(), ("g_step",))["g_step"]
    assert found["hbm_gib"] > 7.48 and not found["fits"] and found["tflop"] == 2.25


def test_an_update_in_parts_takes_its_parts_one_after_another(tiny, compiler):
    compiler.given.clear()
    compiler.answers = {}
    steps = report.Steps(training(tiny, "MP3net.batch_size = 48"), chips.find("v2-8"), lambda line: None)
    assert [str(steps.way(limit)) for limit in (None, 6, 5, 3, 2, 1)] == [
        "batch 6", "batch 6", "batch 3 x 2", "batch 3 x 2", "batch 2 x 3", "batch 1 x 6",
    ]  # fmt: skip
    found = steps.figures(steps.way(2), ("g_step",))["g_step"]
    assert found["tflop"] == 3 * 2.25 and found["estimate_s"] == 0.75 and found["roofline_s"] == pytest.approx(0.6)
    assert found["hbm_gib"] == pytest.approx(3.2, abs=1e-3)
    text, _, title = compiler.given[0]
    assert title == "G update, batch 2 x 3" and stablehlo.arguments(text)[0] == ([6], "i64")


def test_a_report_says_what_does_not_fit_and_what_is_not_known(tiny, compiler, nothing_traced):
    compiler.given.clear()
    compiler.answers = {"D update": {"fits": False, "wanted_gib": 9.5, "hbm_gib": 7.48}}
    steps = report.Steps(training(tiny, "MP3net.batch_size = 8"), chips.find("v2-8"), lambda line: None)
    found = report.report(steps, steps.way())
    assert [title for _, _, title in compiler.given] == ["D update, batch 1"]  # the G update would be in vain
    assert found["g_step"]["fits"] is found["g_step"]["hbm_gib"] is found["g_step"]["tflop"] is None
    assert not found["fits"] and round(found["hbm_gib"], 3) == 9.5 and found["iteration_s"] is found["days"] is None
    said = "\n".join(wording.lines(found))
    assert "does not fit: it wants 9.50 of 7.48 GiB" in said and "nothing was run on a TPU" in said
    assert "G update        not compiled" in said and "no estimate" not in said

    compiler.answers = {"G update": {"fits": False, "wanted_gib": 8.5, "hbm_gib": 7.48}}
    found = report.report(steps, steps.way())
    assert not found["fits"] and found["d_step"]["tflop"] == 2.25 and round(found["hbm_gib"], 3) == 8.5

    compiler.answers = {"G update": {"fits": False, "wanted_gib": None, "defect": DEFECT}}
    found = report.report(steps, steps.way())
    assert not found["fits"] and found["days"] is None and found["g_step"]["defect"] == DEFECT
    said = "\n".join(wording.lines(found))
    assert f"the compiler fails on it: {DEFECT}" in said and "does not compile, whatever room there is" in said

    compiler.answers = {"D update": COMPILED | {"estimate_s": None}}
    found = report.report(steps, steps.way())
    assert found["fits"] and found["days"] is None and found["roofline_days"] > 0
    said = "\n".join(wording.lines(found))
    assert "no estimate" in said and "unknown by the compiler's estimate" in said


def test_a_report_is_printed_with_its_peaks_and_its_limits(tiny, compiler, nothing_traced):
    compiler.answers = {}
    steps = report.Steps(training(tiny, "MP3net.batch_size = 64", "train.steps = 864000"), chips.find("v4-8"), print)
    said = wording.lines(report.report(steps, steps.way(4)))
    assert said[0] == "TPU v4-8: 4 chips, 16 examples each, in 4 micro-batches of 4"
    row = next(line for line in said if line.startswith("D update"))
    assert row.split() == ["D", "update", "2.00", "GiB", "9", "280", "1", "s", "0.228", "s"]
    text = "\n".join(said)
    assert "fits: 3.20 of 30.75 GiB of HBM" in text and "864,000 iterations: 15.0 days" in text
    assert "The roofline is too high" not in text
    faster = report.report(steps, steps.way(4)) | {"iteration_s": 0.1, "roofline_iteration_s": 0.2}
    assert "The roofline is too high here" in "\n".join(wording.lines(faster))
    assert "275 TFLOP/s" in text and "1228 GB/s" in text and "without the exchange between chips" in text


RECOMPUTE = "Execution.recompute = True, MP3net.execution = @Execution()"


class Room:
    """Steps that take `fixed` + `each` x batch GiB, less where they recompute, and that note what they were asked."""

    def __init__(self, tiny, share, fixed, each):
        self.training, self.share, self.machine = training(tiny), share, chips.find("v2-8")
        self.system = self.training.system
        self.execution, self.fixed, self.each, self.asked = self.system.execution, fixed, each, []
        self.state_gib, self.wanted_gib = fixed, fixed + share * each

    way = report.Steps.way

    def figures(self, way, updates):
        self.asked.append(way.batch)
        each = self.each / 2 if way.execution is not None and way.execution.recompute else self.each
        taken = self.fixed + each * way.batch
        return {update: {"fits": taken <= 7.48, "hbm_gib": taken} for update in updates}


@pytest.mark.parametrize(
    "share, fixed, each, largest, asked",
    [
        (1, 1.0, 0.7, 9, [1, 2, 9]),  # (7.48 - 1) / 0.7 = 9.3
        (4, 1.0, 0.7, 9, [4, 8, 9]),
        (8, 1.0, 0.9, 7, [8, 4, 7]),  # the share does not fit
        (1, 1.0, 4.0, 1, [1, 2]),
        (2, 1.0, 4.0, 1, [2, 1]),
        (1, 8.0, 1.0, 0, [1]),
        (1, 0.1, 0.001, 256, [1, 2, 256]),  # never more than what is tried
        (64, 0.1, 0.0, 256, [64, 128, 256]),  # no line: doubled
    ],
)
def test_the_largest_batch_is_predicted_by_a_line_and_confirmed(tiny, share, fixed, each, largest, asked):
    room = Room(tiny, share, fixed, each)
    assert fitting.largest_batch(room) == largest and room.asked == asked


def test_the_largest_batch_steps_down_where_the_line_promised_too_much(tiny):
    room = Room(tiny, 1, 1.0, 0.5)
    figures = room.figures

    def curved(way, updates):
        found = figures(way, updates)[lowering.ROUND]
        taken = found["hbm_gib"] + 0.02 * way.batch**2
        return {lowering.ROUND: {"fits": taken <= 7.48, "hbm_gib": taken}}

    room.figures = curved
    found = fitting.largest_batch(room)
    assert room.asked[:3] == [1, 2, 11] and 1.0 + 0.5 * found + 0.02 * found**2 <= 7.48
    assert found >= 8  # 9.4 is the most


def test_the_largest_batch_is_found_where_memory_falls_before_it_runs_out(tiny):
    """As it does where the compiler begins to compute again what it kept."""
    room = Room(tiny, 8, 0.0, 0.0)
    taken = {8: 4.7, 16: 4.4, 32: 9.0}

    def figures(way, updates):
        room.asked.append(way.batch)
        found = taken.get(way.batch, 0.3 * way.batch)
        return {lowering.ROUND: {"fits": found <= 7.48, "hbm_gib": found}}

    room.figures = figures
    assert fitting.largest_batch(room) == 24 and room.asked == [8, 16, 32, 26, 24]


def test_the_largest_batch_steps_down_one_by_one_where_the_line_says_nothing(tiny):
    room = Room(tiny, 1, 1.0, 0.7)
    room.figures = lambda way, updates: {lowering.ROUND: {"fits": way.batch <= 7, "hbm_gib": 1.0 + 0.7 * way.batch}}
    assert fitting.largest_batch(room) == 7


def test_a_batch_that_the_compiler_fails_on_is_none_that_fits(tiny):
    room = Room(tiny, 4, 1.0, 0.7)
    figures = room.figures

    def failing(way, updates):
        found = figures(way, updates)[lowering.ROUND]
        return {lowering.ROUND: found if way.batch < 7 else {"fits": False, "hbm_gib": None, "defect": DEFECT}}

    room.figures = failing
    assert fitting.largest_batch(room) == 6 and max(room.asked) == 8
    room.share = 8
    assert fitting.largest_batch(room) == 6
    room.figures = lambda way, updates: {lowering.ROUND: {"fits": False, "hbm_gib": None, "defect": DEFECT}}
    assert fitting.largest_batch(room) == 0


@pytest.mark.parametrize(
    "share, fixed, each, settings, asked",
    [
        (8, 1.0, 1.5, RECOMPUTE, [8, 8]),  # which is exact, and so comes before micro-batches
        (8, 1.0, 2.0, "train.micro_batch = 2", [8, 2, 2]),  # 4 would take 8 of 6.48 GiB, and is not compiled
        (8, 1.0, 1.9, "train.micro_batch = 2", [8, 4, 2, 2]),
        (64, 1.0, 5.0, "train.micro_batch = 1", [1, 1]),
        (8, 1.0, 10.0, f"train.micro_batch = 1, {RECOMPUTE}", [1, 1, 1]),
        (1, 1.0, 10.0, RECOMPUTE, [1, 1]),
    ],
)
def test_what_would_fit_is_found_in_order(tiny, share, fixed, each, settings, asked):
    room = Room(tiny, share, fixed, each)
    way, found = fitting.way_that_fits(room, room.way(), room.wanted_gib, lambda line: None)
    assert room.asked == asked
    # What is said is what is to be set: as gin bindings they give the execution that was found to fit.
    set_so = training(tiny, *settings.split(", ")).system.execution
    assert set_so == (way.execution or room.execution)
    assert (
        set(found.split(", ")) == set(settings.split(", "))
        and room.figures(way, ["d_step"])["d_step"]["fits"]
        and way.batch * way.parts == share
    )


def test_where_nothing_fits_all_that_was_tried_is_named(tiny):
    room, said = Room(tiny, 2, 9.0, 1.0), []
    way, tried = fitting.way_that_fits(room, room.way(), room.wanted_gib, said.append)
    assert way is None and set(tried.split(", ")) == {"train.micro_batch = 1", *RECOMPUTE.split(", ")}
    assert said == ["trying train.micro_batch = 1", f"trying {tried}"]
    assert tried in wording.advice(None, tried) and "larger TPU" in wording.advice(None, tried)


def test_a_time_split_that_was_turned_off_is_tried(tiny):
    room = Room(tiny, 1, 9.0, 1.0)
    room.system = training(tiny, "Architecture.base = (64, 2)").system
    assert room.execution.on("TPU", room.system.sizes).segments
    room.execution = Execution(segments=())
    assert fitting.way_that_fits(room, room.way(), room.wanted_gib, lambda line: None)[1] == (
        f"Execution.segments = None, {RECOMPUTE}"
    )


# The table of the README


def test_the_benchmarks_table_takes_its_place_between_the_marks(tiny, compiler, nothing_traced):
    compiler.answers = {}
    steps = report.Steps(training(tiny, "MP3net.batch_size = 8", "train.steps = 864000"), chips.find("v2-8"), print)
    fits = {**report.report(steps, steps.way()), "set": ""}
    compiler.answers = {"D update": {"fits": False, "wanted_gib": 9.5, "hbm_gib": 7.48}}
    large = {**report.report(steps, steps.way()), "set": "Execution.recompute = True"}
    saved = {**fits, "set": "train.micro_batch = 1", "otherwise": wording.otherwise(large)}
    compiler.answers = {"D update": {"fits": False, "wanted_gib": None, "defect": "RET_CHECK failure"}}
    failing = {**saved, "otherwise": wording.otherwise(report.report(steps, steps.way()))}
    table = tpu_benchmark.table({"95s": {"v6e-1": large, "v2-8": fits}, "5s": {"v2-8": saved, "v3-8": failing}})
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert rows[0].startswith(
        "| `95s` | v2-8 | 1 | nothing set | 3.20 of 7.48 | 2.25, 2.25 | 0.375 (0.3) | 90 h (72 h) |"
    )
    assert "does not fit, not even with Execution.recompute = True | 9.50 of 7.48" in rows[1]
    assert "| `train.micro_batch = 1` (otherwise 9.50 GiB) | 3.20 of 7.48 |" in rows[2]
    assert "| `train.micro_batch = 1` (otherwise the compiler fails on it) | 3.20 of 7.48 |" in rows[3]
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1

    readme = "before\n<!-- tpu table -->\nold\n<!-- end of tpu table -->\nafter\n"
    new = tpu_benchmark.with_table(readme, table)
    assert new.startswith("before\n<!-- tpu table -->\n| | TPU") and "old" not in new and new.endswith("\nafter\n")
    assert tpu_benchmark.with_table(new, table) == new
    with pytest.raises(UserError, match="no place for the table"):
        tpu_benchmark.with_table("no marks", table)
