"""A checkpoint is data: whatever somebody has put into it, nothing of it is run."""

import builtins
import importlib
import json
import pickle

import gin
import pytest
from helpers import TINY, write_corpus

from mp3net import evaluate, gallery, generate, recorded
from mp3net import train as train_command
from mp3net.data.pipeline import DataSettings
from mp3net.errors import UserError
from mp3net.training import checkpoints

HOSTILE = """
import subprocess
from os import system
include '{folder}/other.gin'
data.years = @subprocess.getoutput()
subprocess.getoutput.cmd = 'touch {folder}/was_run'
data.splits = ('train',)
train.seed = 7
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("recorded") / "corpus", seconds=8.0)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """The working directory of a run of 2 steps, not to be changed."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "tiny.gin").write_text(TINY.replace("base = (2, 2)", "base = (32, 2)"))
    flags = ["--gin", folder / "tiny.gin", "--data", corpus, "--workdir", folder / "run", "--device", "cpu"]
    flags += ["--gin_param", "train.steps = 2", "--gin_param", "data.peak = 0.5", "--gin_param", "train.seed = 3"]
    assert train_command.main([str(flag) for flag in flags]) == 0
    return folder / "run"


@pytest.fixture
def hostile(run, tmp_path):
    """A copy of `run` whose configuration imports and calls, of a release that kept that text alone."""
    import shutil

    copy = shutil.copytree(run, tmp_path / "run")
    folder = next((copy / "checkpoints").iterdir())
    text = HOSTILE.format(folder=tmp_path)
    state = json.loads((folder / "state.json").read_text())
    del state["host_state"]["settings"]
    state["sizes"]["config.gin"] = len(text)
    (folder / "config.gin").write_text(text)
    (folder / "state.json").write_text(json.dumps(state))
    return copy


def test_no_action_on_a_checkpoint_reaches_gin_pickle_or_a_named_import(hostile, corpus, tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a checkpoint was run")

    for module, names in (
        (gin, ("parse_config", "parse_config_file", "parse_config_files_and_bindings", "bind_parameter")),
        (pickle, ("load", "loads", "Unpickler")),
        (builtins, ("eval",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, forbidden)
    named, real = [], importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name, *rest: named.append(name) or real(name, *rest))
    rest = ["--data", str(corpus), "--n", "1", "--out", str(tmp_path / "out")]
    assert generate.main(["--ckpt", str(hostile), "--n", "1", "--out", str(tmp_path / "songs")]) == 0
    assert evaluate.main(["--ckpt", str(hostile), *rest]) == 0
    assert gallery.main(["--workdir", str(hostile), *rest, "--checkpoints", "0"]) == 0
    assert not (tmp_path / "was_run").exists() and "subprocess" not in named
    settings, seed = recorded.settings_of(checkpoints.latest(hostile))
    assert (settings, seed) == (DataSettings(splits=("train",)), 7)  # plain values are read, what calls is not


def test_what_is_needed_of_a_run_is_kept_and_read_as_data(run):
    checkpoint = checkpoints.latest(run)
    saved = checkpoint.host_state["settings"]
    assert saved["seed"] == 3 and saved["data"]["peak"] == 0.5
    assert recorded.settings_of(checkpoint) == (DataSettings(peak=0.5), 3)


@pytest.mark.parametrize(
    "settings",
    [
        [], {}, {"data": {}}, {"seed": 1}, {"data": [], "seed": 1}, {"data": {}, "seed": True},
        {"data": {}, "seed": -1}, {"data": {"years": ["2004"]}, "seed": 1}, {"data": {"splits": "train"}, "seed": 1},
        {"data": {"peak": "loud"}, "seed": 1}, {"data": {"peak": 1e999}, "seed": 1}, {"data": {"upmix": 1}, "seed": 1},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_are_none_are_told_in_a_line(settings):
    checkpoint = checkpoints.Checkpoint("runs/x/checkpoints/00000002", 2, {"settings": settings})
    with pytest.raises(UserError, match="00000002 is damaged: the settings of its data"):
        recorded.settings_of(checkpoint)
