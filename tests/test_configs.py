"""Every shipped configuration: found by name, read, headed by what it takes and gives, and built."""

import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
from helpers import TINY, command

from mp3net import configuration, describe, prepare
from mp3net.errors import UsageError, UserError
from mp3net.model.cost import layer_records

NAMES = configuration.shipped()
SMALL = ["Architecture.shallowest_features = 1", "Architecture.max_features = 4", "Architecture.head_features = 4"]


def test_the_configurations_of_the_readme_are_there():
    assert {"95s", "5s", "lab", "demo"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_opens_with_its_command_hardware_hours_and_result(name):
    header = configuration.find(name).read_text().split("Architecture.")[0]
    for word in (f"mp3net.train --gin {name}", "Hardware:", "Result to expect:"):
        assert word in header, word
    assert "hour" in header or "minute" in header
    assert "@" not in header.replace("@hum/", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_builds_its_networks_and_stages(name):
    training, _ = configuration.load([name])
    records = layer_records(training.system.sizes)
    assert records["generator"][-1].output_shape == training.system.sizes.output_shape
    assert sum(stage.steps for stage in training.system.stages(training.steps)) == training.steps


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_trains_a_step_at_toy_width(name):
    """The paper's shapes of blocks x bands, at one feature: all that differs from the real thing is the width."""
    short = ["Architecture.model_blocks = 3"] if name == "95s" else []
    training, _ = configuration.load([name], [*SMALL, *short, "MP3net.batch_size = 2"])
    system = training.system.build(seed=0)
    batches = 0.1 * tf.random.stateless_normal([system.steps_per_round, 2, *system.sizes.output_shape], [0, 0])
    examples = tf.reshape(tf.range(2 * system.steps_per_round, dtype=tf.int64), [-1, 2])
    scalars, finite = tf.function(system.train_step, autograph=False)(
        system.stages(training.steps)[-1], batches, examples
    )
    assert all(bool(value) for value in finite.values()) and len(finite) > 50
    assert {"d_loss", "g_loss", "wasserstein"} <= set(scalars)


def test_the_papers_recipes_are_in_force():
    training, data = configuration.load(["5s"])
    assert [(stage.name, stage.steps) for stage in training.system.stages(training.steps)] == [
        ("main", 142000), ("sharpen", 18000)
    ]  # fmt: skip
    assert training.system.stages(training.steps)[1].settings.beta_1 == 0.0
    assert (training.system.batch_size, data.peak, data.slicing) == (64, 0.999, "fixed")
    training, data = configuration.load(["95s"])
    assert (training.steps, training.system.batch_size, training.system.steps_per_round) == (750000, 8, 2)
    assert (training.system.penalty_weight, training.system.drift_weight) == (3.0, 0.1)
    assert data.years == (2004, 2006, 2008, 2009) and data.splits is None and training.system.average_decay is None


def test_a_parameter_on_the_command_line_is_in_force_and_told():
    training, _ = configuration.load(["demo"], ["train.steps = 10", "MP3net.batch_size = 3"])
    assert training.steps == 10 and training.system.batch_size == 3
    assert "train.steps = 10" in configuration.in_force() and "MP3net.beta_2 = 0.9" in configuration.in_force()


def test_prepare_names_a_configuration_of_its_rate():
    for rate_hz, name in prepare.CONFIGURATIONS.items():
        assert configuration.load([name])[0].system.rate_hz == rate_hz


def test_names_are_found_with_and_without_folder_and_ending():
    assert configuration.find("95s") == configuration.find("95s.gin") == configuration.find("configs/95s.gin").resolve()


@pytest.mark.parametrize(
    "parameter, word",
    [
        ("MP3net.bach_size = 8", "bach_size"),
        ("Unknown.thing = 1", "Unknown"),
        ("train.steps = ", "demo"),
        ("train.steps = (1,", "demo"),
        ("include 'missing.gin'", "missing.gin"),
        ("import nosuchmodule", "nosuchmodule"),
        ("Architecture.base = ()", "Architecture.base"),
        ("train.system = 5", "train.system"),
        ("MP3net.phases = ['x']", "MP3net.phases"),
        ("MP3net.learning_rate = 'fast'", "MP3net.learning_rate"),
        ("MP3net.penalty_weight = None", "MP3net.penalty_weight"),
        ("data.years = 2004", "data.years"),
        ("data.threads = 'two'", "data.threads"),
        ("train.save_every_minutes = 'x'", "train.save_every_minutes"),
        ("train.seed = -1", "train.seed"),
        ("Perception.layer = 'reverb'", "Perception.layer"),
        ("MP3net.average_decay = 1.5", "average_decay"),
    ],
)
def test_gin_never_skips_what_it_does_not_know(parameter, word):
    with pytest.raises(UserError, match=word):
        configuration.load(["demo"], [parameter])


def test_a_configuration_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UserError, match="no configuration 96s.*95s"):
        configuration.load(["96s"])
    with pytest.raises(UsageError, match="--gin"):
        configuration.load([])


def test_differences_are_by_name_and_by_gravity():
    configuration.load(["5s"])
    saved = configuration.in_force()
    configuration.load(["5s"], ["MP3net.batch_size = 32", "train.steps = 162000", "data.years = (2004,)"])
    grave, harmless = configuration.differences(saved, configuration.in_force())
    assert grave == [
        "MP3net.batch_size: 64 in the checkpoint, 32 now",
        "data.years: (2004, 2006, 2008, 2009) in the checkpoint, (2004,) now",
        "train.steps: 160000 in the checkpoint, 162000 now",
    ]
    assert harmless == []
    assert configuration.differences(saved, saved) == ([], [])


def test_a_longer_run_is_another_run_only_where_a_phase_counts_from_the_end():
    for name, grave in (("5s", True), ("demo", False)):
        configuration.load([name])
        saved = configuration.in_force()
        configuration.load([name], ["train.steps = 990000"])
        assert bool(configuration.differences(saved, configuration.in_force())[0]) == grave


def test_describe_writes_what_it_prints(tmp_path):
    gin, out = tmp_path / "tiny.gin", tmp_path / "tiny.json"
    gin.write_text(TINY)
    process = command("describe", "--gin", gin, "--json", out)
    assert process.returncode == 0, process.stderr
    found = json.loads(out.read_text())
    assert found["output_shape"] == [32, 8, 2] and found["rate_hz"] == 4000
    assert found["seconds"] == pytest.approx(31 * 8 / 4000)
    for network in ("generator", "discriminator"):
        layers = found["layers"][network]
        assert found[f"{network}_parameters"] == sum(layer["parameters"] for layer in layers) > 0
        assert f"{found[f'{network}_parameters']:,} parameters" in process.stdout
    assert found["generator_gflop"] == pytest.approx(sum(layer["gflop"] for layer in found["layers"]["generator"]))
    assert "block 1/high balance" in process.stdout and "transposed 3x3, stride (2, 2)" in process.stdout


def test_describe_gives_the_papers_figures():
    found = describe.description(configuration.load(["95s"])[0].system)
    assert (found["generator_parameters"], found["discriminator_parameters"]) == (58_981_762, 59_088_737)
    assert found["output_shape"] == [16384, 128, 2] and found["seconds"] == 95.25
    assert found["generator_gflop"] == pytest.approx(408, abs=0.5)


def test_an_installed_wheel_finds_its_configurations(tmp_path):
    """Built and unpacked as pip would, away from the checkout."""
    root = pathlib.Path(__file__).parent.parent
    build = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        tmp_path,
        root,
    ]
    made = subprocess.run(list(map(str, build)), capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    script = "from mp3net import configuration as c; print(c.__file__, c.load(['95s'])[0].steps, c.shipped())"
    alone = {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=alone)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path) in run.stdout and "750000" in run.stdout and "demo" in run.stdout
