"""The loop, with a system so small that a step takes no time: schedule, rows, checkpoints, resumption, interruption."""

import contextlib
import itertools
import json
import os
import signal
import threading
import time

import pytest
import tensorflow as tf

from mp3net.errors import UserError
from mp3net.stage import Stage
from mp3net.training import checkpoints, trainer
from mp3net.training.devices import Devices, choose
from mp3net.training.progress import Averages, duration
from mp3net.training.summaries import Summaries
from mp3net.training.trainer import Training, train

RECORD = {"configuration": "config", "data": {"recordings": 3}, "place": {"device": "CPU", "xla": False}}
RECORD["settings"] = {"data": {}, "seed": 0}


class Counter(tf.Module):
    """A system whose one variable adds up the examples that it is given, in two stages of rounds of two steps."""

    steps_per_round, rate_hz, channels, headline = 2, 100, 1, ("d_loss", "g_loss")

    def __init__(self, bad_at=None):
        super().__init__()
        self.total, self.bad_at, self.seen = tf.Variable(0, dtype=tf.int64), bad_at, []

    def stages(self, steps):
        half = steps // 2
        return [Stage("first", half, 3, 50, "a"), Stage("second", steps - half, 3, 50, "b")]

    def train_step(self, stage, batches, examples):
        self.seen.append(stage.settings)  # once for each trace
        total = self.total.assign_add(tf.reduce_sum(examples))
        value = tf.cast(total, tf.float32)
        fine = tf.constant(True) if self.bad_at is None else tf.reduce_max(examples) < self.bad_at
        loss = {"d_loss": value, "g_loss": -value, "wasserstein": tf.reduce_sum(batches)}
        return loss, {"first": tf.constant(True), "second": fine, "third": fine}

    @property
    def representation(self):
        return self

    def encode(self, audio):
        raise AssertionError("the data are encoded")

    def checkpoint_items(self):
        return {"total": self.total}

    def architecture(self):
        return {"system": "counter"}


class Data:
    """Examples 0, 1, 2, ... with a waveform of ones; from example `broken_at` on, a recording that is gone."""

    def __init__(self, broken_at=None):
        self.broken_at, self.error = broken_at, None

    def dataset(self, stage, first_step, steps_per_round, rounds, replicas, first_replica, count, encoded):
        assert (replicas, first_replica, count, encoded) == (1, 0, 1, True)
        size = rounds * steps_per_round * stage.batch_size

        def read(examples):
            if self.broken_at is not None and examples.max() >= self.broken_at:
                self.error = UserError("piece.wav is gone")
                raise self.error
            return examples

        def element(index):
            first = first_step * stage.batch_size + index * size
            examples = tf.numpy_function(read, [tf.range(first, first + size)], tf.int64)
            shape = [rounds, steps_per_round, stage.batch_size]
            return tf.ones(shape), tf.reshape(tf.ensure_shape(examples, [size]), shape)

        return tf.data.Dataset.counter(0, dtype=tf.int64).map(element)


def run(workdir, steps=20, system=None, resumed=None, on_log=lambda line: None, data=None, devices=None, **options):
    system = system or Counter()
    if resumed:
        resumed.restore(system.checkpoint_items())
    lines = []

    def log(line):
        lines.append(line)
        on_log(line)

    settings = {"log_every": 4, "save_every_steps": 6, **options}
    ended = train(
        Training(system, steps, **settings), devices or choose("cpu"), data or Data(), workdir, RECORD, resumed, log
    )
    return system, lines, ended


def rows(workdir):
    return [json.loads(line) for line in open(os.path.join(workdir, "metrics.jsonl"))]


def test_a_run_sees_every_example_once_in_both_stages_each_traced_once(tmp_path):
    system, lines, ended = run(tmp_path)
    assert int(system.total) == sum(range(60)) and ended is None
    assert system.seen == ["a", "b"]
    assert [row["step"] for row in rows(tmp_path)] == [4, 8, 12, 16, 20]
    assert {"d_loss", "g_loss", "wasserstein", "steps_per_second", "data_wait"} <= set(rows(tmp_path)[0])
    progress = next(line for line in lines if line.startswith("step 8/20"))
    assert all(word in progress for word in ("d_loss", "g_loss", "D it/s", "s audio/s", "waiting for data", "ETA"))
    assert any(name.startswith("events") for name in os.listdir(tmp_path / "tensorboard"))


def test_a_row_is_the_mean_of_the_rounds_since_the_last(tmp_path):
    run(tmp_path)
    totals = [sum(range(6 * (i + 1))) for i in range(10)]  # after each round
    assert [row["d_loss"] for row in rows(tmp_path)] == [(totals[2 * i] + totals[2 * i + 1]) / 2 for i in range(5)]


def test_checkpoints_come_by_steps_and_at_the_end_and_the_last_are_kept(tmp_path):
    run(tmp_path, keep=2)
    assert [checkpoint.step for checkpoint in checkpoints.every(tmp_path)] == [18, 20]
    run(tmp_path / "more", keep=9)
    assert [checkpoint.step for checkpoint in checkpoints.every(tmp_path / "more")] == [6, 12, 18, 20]


def test_checkpoints_come_by_the_clock(tmp_path):
    run(tmp_path, steps=8, save_every_steps=1000, save_every_minutes=0.0, keep=9)
    assert [checkpoint.step for checkpoint in checkpoints.every(tmp_path)] == [2, 4, 6, 8]


def test_a_resumed_run_goes_on_where_its_checkpoint_was_and_its_rows_agree(tmp_path):
    whole, _, _ = run(tmp_path / "whole", log_every=8)
    run(tmp_path / "cut", steps=12, log_every=8)  # its last checkpoint is in the middle of a row
    assert rows(tmp_path / "cut")[-1]["step"] == 12
    last = checkpoints.every(tmp_path / "cut")[0]
    assert last.step == 6
    resumed, _, _ = run(tmp_path / "cut", resumed=last, log_every=8)
    assert int(resumed.total) == int(whole.total)
    pick = ("step", "d_loss", "g_loss", "wasserstein")
    found, expected = ([[row[name] for name in pick] for row in rows(tmp_path / name)] for name in ("cut", "whole"))
    assert found == expected and [row[0] for row in found] == [8, 16, 20]


def test_a_number_that_is_not_finite_stops_the_run_names_the_tensor_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"step 14: .*first bad tensor is: second.*00000012"):
        run(tmp_path, system=Counter(bad_at=40))
    assert [checkpoint.step for checkpoint in checkpoints.every(tmp_path)] == [6, 12]
    assert max(row["step"] for row in rows(tmp_path)) == 12


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_first(tmp_path, number):
    def interrupt(line):
        if line.startswith("step 8"):
            os.kill(os.getpid(), number)

    _, _, ended = run(tmp_path, on_log=interrupt, save_every_steps=1000)
    assert ended == number
    assert checkpoints.latest(tmp_path).step == 8
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # as it was before the run


def test_after_a_signal_no_further_stage_is_begun_and_a_finished_run_is_finished(tmp_path):
    def interrupt_at(text):
        return lambda line: os.kill(os.getpid(), signal.SIGTERM) if line.startswith(text) else None

    system, lines, ended = run(tmp_path / "early", on_log=interrupt_at("step 4"))
    assert ended == signal.SIGTERM and system.seen == ["a"] and not any("stage second" in line for line in lines)
    _, _, ended = run(tmp_path / "late", on_log=interrupt_at("step 20"))
    assert ended is None and checkpoints.latest(tmp_path / "late").step == 20


def test_a_terminal_that_closes_costs_nothing_that_was_learnt(tmp_path):
    def closed(line):
        if line.startswith("step 8"):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(tmp_path, on_log=closed, save_every_steps=1000)
    assert checkpoints.latest(tmp_path).step == 8


def test_a_terminal_that_is_gone_when_the_signal_comes_costs_nothing_either(tmp_path, monkeypatch):
    """A closed terminal sends SIGHUP, and answers what is then printed with an error."""
    printed = []

    def gone(*words, **options):
        printed.append(words)
        raise OSError(5, "Input/output error")

    def hang_up(line):
        if line.startswith("step 8"):
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr("builtins.print", gone)
    _, _, ended = run(tmp_path, on_log=hang_up, save_every_steps=1000)
    assert ended == signal.SIGHUP and printed and checkpoints.latest(tmp_path).step == 8


class Host(Devices):
    """One of several hosts, to the trainer; the others say what `others` gives for each question."""

    def __init__(self, others):
        super().__init__(tf.distribute.OneDeviceStrategy("CPU:0"), "CPU", "CPU of a host")
        self.others, self.asked = others, []

    def largest(self, numbers):
        self.asked.append([float(number) for number in numbers])
        return [max(pair) for pair in zip(self.asked[-1], next(self.others), strict=True)]


def test_what_another_host_says_holds_here_too(tmp_path):
    """Another host's clock has all save, which moves the count of steps on every host; its signal ends all."""
    others = itertools.chain([[0, 0]] * 3, [[0, 1]], [[0, 0]] * 3, [[signal.SIGTERM, 0]])
    host = Host(others)
    system, _, ended = run(tmp_path, devices=host, save_every_minutes=1000.0, save_every_steps=8, keep=9, steps=40)
    # The first question comes before the stage. At the fourth, after two rounds, the other's clock says: save.
    assert [checkpoint.step for checkpoint in checkpoints.every(tmp_path)] == [4, 12]
    assert ended == signal.SIGTERM and len(host.asked) == 8


def test_hosts_whose_clocks_differ_run_the_same_rounds(tmp_path, monkeypatch):
    """What is due by a host's own clock must not decide how many rounds it runs: the others would wait in theirs."""
    barrier, said, calls = threading.Barrier(2), {}, {0: [], 1: []}

    class Meeting:
        """A host that asks another, in a thread of its own."""

        place, replicas = None, 1

        def bring_back(self):
            """Variables are where they are."""

        close = bring_back

        def __init__(self, index):
            self.index, self.chief = index, index == 0

        def largest(self, numbers):
            said[self.index] = [float(number) for number in numbers]
            barrier.wait(timeout=30)
            found = [max(pair) for pair in zip(*said.values(), strict=True)]
            barrier.wait(timeout=30)
            return found

    class Instant:
        """Rounds that take no time of TensorFlow's, four at most to a call."""

        description = ""

        def __init__(self, system, stage, devices, data, step, training):
            self.index = devices.index

        def fetch(self):
            time.sleep(0.02)

        def run(self, most):
            calls[self.index].append(min(most, 4))
            return [({"d_loss": 0.0, "g_loss": 0.0}, None)] * min(most, 4)

    class Deaf(contextlib.nullcontext):
        """Only a process's first thread may hear signals."""

        signal = None

        def __enter__(self):
            return self

    monkeypatch.setattr(trainer, "Rounds", Instant)
    monkeypatch.setattr(trainer, "Interruption", Deaf)

    def host(index):
        minutes = (0.01 / 60, 1000.0)[index]
        options = {"save_every_minutes": minutes, "save_every_steps": 10, "log_every": 1000}
        run(tmp_path, devices=Meeting(index), steps=120, **options)

    threads = [threading.Thread(target=host, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert calls[0] == calls[1] and sum(calls[0]) == 60 and len(set(calls[0])) > 1


def test_a_round_that_fails_half_way_is_not_saved(tmp_path):
    class Failing(Counter):
        def train_step(self, stage, batches, examples):
            scalars, finite = super().train_step(stage, batches, examples)
            with tf.control_dependencies(
                [tf.debugging.assert_less(tf.reduce_max(examples), tf.constant(40, tf.int64))]
            ):
                return {name: tf.identity(value) for name, value in scalars.items()}, finite

    with pytest.raises(tf.errors.InvalidArgumentError):
        run(tmp_path, system=Failing())
    assert checkpoints.latest(tmp_path).step == 12


def test_rows_after_the_checkpoint_and_half_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "d_loss": 1.0}\n{"step": 4, "d_loss": 2.0}\n{"step": 6, "d_lo')
    Summaries(tmp_path, 2).write(4, {"d_loss": 3.0})
    assert rows(tmp_path) == [{"step": 2, "d_loss": 1.0}, {"step": 4, "d_loss": 3.0}]


def test_averages_survive_json():
    averages = Averages()
    averages.add({"loss": 0.1})
    averages = Averages(json.loads(json.dumps(averages.state)))
    averages.add({"loss": 0.2})
    assert averages.take() == {"loss": (0.1 + 0.2) / 2} and averages.state["rounds"] == 0


@pytest.mark.parametrize(
    "seconds, said",
    [(45, "45 s"), (600, "10 min"), (12000, "3 h 20 min"), (900000, "10 d 10 h"), (86400, "24 h 0 min")],
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"log_every": 0}, {"keep": 0}, {"seed": -1}, {"steps": 1.5}])
def test_settings_that_make_no_sense_are_told(wrong):
    with pytest.raises(UserError, match=f"train.{next(iter(wrong))}"):
        Training(None, **{"steps": 2, **wrong})


def test_a_recording_that_cannot_be_read_costs_nothing_that_was_learnt(tmp_path):
    with pytest.raises(UserError, match="piece.wav is gone"):
        run(tmp_path, steps=40, data=Data(broken_at=24), save_every_steps=1000)
    assert checkpoints.latest(tmp_path).step == 8
