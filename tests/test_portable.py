"""A run that is exported, trained where there is no TensorFlow, and imported: the same run; and what is refused."""

import json
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from helpers import TINY, assert_refuses, assert_told, tones, write_corpus
from test_pjrt import MORE
from test_train_command import losses, train

from mp3net import train as train_command
from mp3net.aot import lowering
from mp3net.errors import UsageError, UserError
from mp3net.model.architecture import Architecture
from mp3net.model.mp3net import MP3net
from mp3net.pjrt import programs
from mp3net.portable import recordings, sound, state
from mp3net.training.lowered import lower_initial, place_of

RANDOM = ("--gin_param", "data.slicing = 'random'")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("portable") / "corpus", seconds=6.0)


@pytest.fixture(scope="module")
def gin(tmp_path_factory):
    path = tmp_path_factory.mktemp("portable") / "tiny.gin"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def exported(gin, corpus, tmp_path_factory):
    """The export of a run of 40 steps in two phases, not to be changed."""
    folder = tmp_path_factory.mktemp("portable") / "export"
    done = export(gin, corpus, folder, *MORE, *RANDOM)
    assert done.returncode == 0, done.stderr
    assert "3 of 3, as wav" in done.stdout and "python export/run.py" in done.stdout
    return folder


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "export")


def export(gin, corpus, folder, *more):
    line = [sys.executable, "-m", "mp3net.train", "--gin", gin, "--data", corpus, "--export", folder]
    line += ["--device", "jax:cpu", *more]
    return subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=900, check=False)


def elsewhere(folder, *flags, until=None, lacking=()):
    """Runs an export's script from a folder of its own, where TensorFlow and soundfile cannot be imported.

    With `until` it is killed when it has printed a line that holds that.
    """
    without = folder.parent / "without"
    for name in ("tensorflow", "soundfile", *lacking):
        (without / name).mkdir(parents=True, exist_ok=True)
        (without / name / "__init__.py").write_text(f"raise ImportError('not on this machine', name={name!r})")
    line = [sys.executable, "-u", str(folder / "run.py"), "--device", "cpu", *flags]
    options = {"cwd": without, "env": {"PYTHONPATH": str(without), "PATH": ""}, "text": True}
    if until is None:
        return subprocess.run(line, capture_output=True, timeout=900, check=False, **options)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    said = []
    for printed in process.stdout:
        said.append(printed)
        if until in printed:
            process.kill()
            assert process.wait() == -signal.SIGKILL
            return process
    raise AssertionError("".join(said))


def test_forty_steps_elsewhere_killed_and_imported_equal_forty_here_to_the_bit(gin, corpus, copied, tmp_path):
    here = train(gin, corpus, tmp_path / "here", *MORE, *RANDOM, "--device", "jax:cpu")
    assert here.returncode == 0, here.stderr
    manifest = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps({**manifest, "save_every_minutes": 0}))
    elsewhere(copied, until="saved ")
    for events in (copied / "state").glob("metrics.jsonl"):
        events.write_text(events.read_text() + '{"step": 39, "d_l')  # a row that was cut short
    there = elsewhere(copied, "--minutes", "5")
    assert there.returncode == 0 and "resuming " in there.stdout and "Done." in there.stdout, there.stderr
    lines = [line.split("  ")[:4] for line in here.stdout.splitlines() if line.startswith("step 40/40")]
    assert lines == [line.split("  ")[:4] for line in there.stdout.splitlines() if line.startswith("step 40/40")]

    imported = import_(copied, tmp_path / "imported")
    assert imported == 0
    assert losses(tmp_path / "imported") == losses(tmp_path / "here") and len(losses(tmp_path / "here")) == 7
    weights = [
        tf.train.load_checkpoint(f"{tmp_path}/{run}/checkpoints/00000040/weights") for run in ("here", "imported")
    ]
    names = [name for name in weights[0].get_variable_to_shape_map() if "CHECKPOINTABLE" not in name]
    assert len(names) > 100
    for name in names:
        np.testing.assert_array_equal(*(reader.get_tensor(name) for reader in weights), err_msg=name)
    states = [
        json.loads((tmp_path / run / "checkpoints/00000040/state.json").read_text()) for run in ("here", "imported")
    ]
    assert states[0]["host_state"] == states[1]["host_state"]

    # From there everything else goes on: the same run, longer, as one that was trained here.
    longer = ("--accept_changes", "--gin_param", "train.steps = 44")
    on = train(gin, corpus, tmp_path / "imported", *MORE, *RANDOM, *longer, "--device", "jax:cpu")
    assert on.returncode == 0 and "data: " not in on.stdout, (on.stdout, on.stderr)
    assert_refused(["--import", copied, "--workdir", tmp_path / "imported"], "is at step 44", "nothing new")


def import_(folder, workdir):
    return train_command.main(["--import", str(folder), "--workdir", str(workdir)])


def assert_refused(flags, *words, kind=UserError):
    assert_refuses(train_command.main, flags, kind, *words)


def test_a_run_that_has_begun_is_exported_with_its_state_for_several_devices(gin, corpus, tmp_path):
    begun = train(gin, corpus, tmp_path / "run", "--device", "cpu")
    assert begun.returncode == 0, begun.stderr
    longer = ("--workdir", tmp_path / "run", "--gin_param", "train.steps = 16", "--device", "jax:cpu:2")
    done = export(gin, corpus, tmp_path / "export", *longer)
    assert done.returncode == 0, done.stderr
    there = elsewhere(tmp_path / "export")
    assert there.returncode == 0 and "at step 12" in there.stdout and "2 x cpu" in there.stdout, there.stderr
    assert import_(tmp_path / "export", tmp_path / "run") == 0
    assert [row[0] for row in losses(tmp_path / "run")] == list(range(2, 17, 2))


def test_the_state_is_cut_into_files_and_is_whole_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "PART_BYTES", 100)
    arrays = [np.arange(60, dtype=np.float32).reshape(3, 20), np.array(7, np.int64), np.zeros([0, 2], np.float32)]
    variables = [[list(array.shape), array.dtype.name] for array in arrays]
    for step in (4, 8, 12):
        state.write(tmp_path / f"step-{step:08d}", [step * arrays[0], *arrays[1:]], {"step": step, "averages": {}})
    assert [len(path.read_bytes()) for path in sorted((tmp_path / "step-00000012").glob("*.bin"))] == [100, 100, 48]
    found, record = state.read(state.newest(tmp_path), variables)
    assert record["step"] == 12 and all(
        (a == b).all() for a, b in zip(found, [12 * arrays[0], *arrays[1:]], strict=True)
    )
    (tmp_path / "step-00000012" / "state.json").unlink()
    assert state.newest(tmp_path).name == "step-00000008"
    state.keep_last(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000008"]

    last = tmp_path / "step-00000008" / "part-002.bin"
    whole = last.read_bytes()
    for content, words in ((whole[:-1], "cut short"), (whole[:-1] + b"x", "damaged"), (None, "is missing")):
        last.unlink()
        if content is not None:
            last.write_bytes(content)
        with pytest.raises(UserError, match=words):
            state.read(state.newest(tmp_path), variables)
        last.write_bytes(whole)
    with pytest.raises(UserError, match="another model"):
        state.read(state.newest(tmp_path), variables[:1])
    for text in (
        "{",
        "[]",
        '{"step": "8", "averages": {}, "parts": []}',
        '{"step": 8, "averages": {}, "parts": [["x", 1]]}',
    ):
        (tmp_path / "step-00000008" / "state.json").write_text(text)
        with pytest.raises(UserError, match="state.json is damaged"):
            state.read(state.newest(tmp_path), variables)


class Recordings:
    """What recordings.py takes of a pipeline: a few files of a folder."""

    rate_hz, channels, resamples = 4000, 2, 0

    class settings:
        upmix = False

    def __init__(self, folder):
        from mp3net.data.corpus import open_corpus

        self.recordings = open_corpus(folder).recordings


def quiet_noise(folder, count=4, seconds=30.0):
    """Recordings of which FLAC, and Ogg still more, makes less."""
    folder.mkdir()
    for i in range(count):
        wave = tones(seconds, 4000, seed=i)
        wave += 0.003 * np.random.default_rng(i).standard_normal(wave.shape).astype(np.float32)
        soundfile.write(folder / f"piece-{i}.wav", wave, 4000, subtype="PCM_16")
    return folder


@pytest.mark.parametrize("share, ending, kept", [(1.0, "wav", 4), (0.9, "flac", 4), (0.2, "ogg", 4), (0.05, "ogg", 1)])
def test_recordings_take_the_format_that_fits_and_are_decoded_without_soundfile(
    tmp_path, monkeypatch, share, ending, kept
):
    decoder = tmp_path / "decoder.so"
    decoder.write_bytes(b"")  # as if it took no room: the recordings are small here
    real = recordings._decoder()
    monkeypatch.setattr(recordings, "_decoder", lambda: decoder)
    pipeline, said = Recordings(quiet_noise(tmp_path / "corpus")), []
    room = share * sum(path.stat().st_size for path in (tmp_path / "corpus").iterdir())
    written = recordings.write(tmp_path / "out", pipeline, room, said.append)
    assert len(written) == kept and sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= room
    assert f"{kept} of 4, as {ending}" in said[0] and ("Ogg loses" in said[-1]) == (ending == "ogg")
    shutil.copy(real, tmp_path / "out" / sound.LIBRARY)
    for recording, name, frames in written:
        assert frames == recording.frames == 120_000 and name.endswith(ending)
        decoded = sound.read(tmp_path / "out" / name, frames, 2)
        expected = soundfile.read(tmp_path / "out" / name, dtype="int16")[0]
        np.testing.assert_array_equal(decoded, expected)
        if ending != "ogg":
            np.testing.assert_array_equal(decoded, soundfile.read(recording.path, dtype="int16")[0])
    (tmp_path / "out" / name).write_bytes((tmp_path / "out" / name).read_bytes()[: -len(expected)])
    with pytest.raises(UserError, match=name):
        sound.read(tmp_path / "out" / name, frames, 2)


def test_what_an_export_or_its_import_cannot_be_is_told(gin, corpus, copied, tmp_path):
    flags = ["--gin", gin, "--data", corpus, "--export"]
    assert_refused([*flags, copied], "is there, and not empty")
    assert_refused([*flags, tmp_path / "new", "--device", "gpu"], "--device jax:gpu", kind=UsageError)
    assert_refused([*flags, tmp_path / "new", "--device", "jax:cpu:3"], "batch of 2 cannot be divided among 3")
    shutil.rmtree(tmp_path / "new")
    assert_refused([*flags, tmp_path / "new", "--export_mib", "0.1"], "state and programs alone take", "Raise it")
    assert_refused(["--export", tmp_path / "new", "--gin", gin], "--data is missing", kind=UsageError)
    workdir = ["--workdir", tmp_path / "run"]
    assert_refused(["--import", copied, *workdir], "has not been trained", "run.py")
    assert_refused(["--import", tmp_path / "nowhere", *workdir], "run.json is missing")
    manifest = json.loads((copied / "run.json").read_text())
    names = range(len(manifest["variables"]))
    zeros = [np.zeros(*variable) for variable in manifest["variables"]]
    state.write(copied / "state" / "step-00000004", zeros, {"step": 4, "averages": {"rounds": 0, "sums": {}}})
    for change, words in (
        ({"release": "0.0.9"}, ("is of mp3net 0.0.9", "pip install 'mp3net==0.0.9'")),
        ({"variables": [[[1], "object"]]}, ("damaged",)),
        ({"variables": manifest["variables"][:-1]}, ("another model",)),
        ({"architecture": {"system": "os.system"}}, ("damaged, or of a newer release",)),
        ({"variables": [manifest["variables"][i] for i in reversed(names)]}, ("not that of its architecture",)),
        ({"configuration": None}, ("damaged",)),
    ):
        (copied / "run.json").write_text(json.dumps({**manifest, **change}))
        assert_refused(["--import", copied, *workdir], *words)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_the_script_cannot_do_is_told(copied):
    def told(*words):
        assert_told(elsewhere(copied), 1, *words)

    assert_told(elsewhere(copied, lacking=("jax",)), 1, "jax is not installed here: pip install jax")
    shutil.rmtree(copied.parent / "without")
    manifest = (copied / "run.json").read_text()
    run = json.loads(manifest)
    run["stages"][0]["first_crops"][5][1] += 1
    (copied / "run.json").write_text(json.dumps(run))
    told("draws other numbers", f"Use {np.__version__}")
    (copied / "run.json").write_text(json.dumps({**run, "replicas": 1, "names": run["names"], "stages": []})[:100])
    told("run.json is missing or damaged")
    (copied / "run.json").write_text(manifest)
    initial = (copied / "initial.stablehlo").read_bytes()
    (copied / "initial.stablehlo").unlink()
    told("initial.stablehlo is missing")
    (copied / "initial.stablehlo").write_bytes(initial)
    (copied / "recordings" / "00001.wav").write_bytes(b"RIFF")
    told("00001.wav cannot be read")
    state.write(copied / "state" / "step-00000004", [np.zeros(3, np.float32)], {"step": 4, "averages": {}})
    told("step-00000004 is the state of another model")
    assert (copied / "state" / "step-00000004" / "state.json").exists()


def test_the_initial_state_is_a_program_of_the_seed_that_holds_no_weights():
    sizes = Architecture(model_blocks=1, base=(2, 2), latent_size=512, shallowest_features=4, max_features=64)
    system, place = MP3net(sizes, average_decay=0.9), place_of("CPU", 1)
    lowered = lower_initial(system, place, 1)
    variables = lowering.variables(system)
    assert len(lowered.artifact) < lowering.state_bytes(system) / 2 and system.seed == 1
    mesh = programs.Mesh(jax.devices("cpu")[:1])
    initial = mesh.spread(programs.call_of(lowered), [False, False])
    found = [np.asarray(value) for value in initial(mesh.share(np.int64(5)))]
    for value, variable in zip(
        found, lowering.variables(MP3net(sizes, average_decay=0.9).build(place, 5)), strict=True
    ):
        np.testing.assert_array_equal(value, variable.numpy(), strict=True)
    assert any((value != variable.numpy()).any() for value, variable in zip(found, variables, strict=True))  # of seed 1
