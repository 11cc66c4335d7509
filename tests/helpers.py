"""What several tests share: a small model, a small corpus, and comparisons that refuse to compare nothing."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

TINY = """
Architecture.model_blocks = 2
Architecture.base = (2, 2)
Architecture.latent_size = 8
Architecture.shallowest_features = 4
Architecture.max_features = 8
Architecture.head_features = 8
Architecture.rate_hz = 4000
MP3net.architecture = @Architecture()
MP3net.perception = @Perception()
MP3net.batch_size = 2
train.system = @MP3net()
train.steps = 12
train.log_every = 2
train.save_every_steps = 4
"""


def assert_close(actual, expected, rtol=1e-5, atol=1e-6):
    """Asserts that two arrays of one shape, with something in them, agree."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    assert actual.size > 0
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def tones(seconds, rate_hz, channels=2, seed=0):
    """Decaying tones that start every quarter of a second: `[sample, channel]`."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    pitches = 110 * 2 ** random.uniform(0, 3, size=(channels, 3))
    envelope = np.exp(-6 * (time_s % 0.25))
    voices = [sum(np.sin(2 * np.pi * hz * time_s) for hz in pitch) * envelope / 8 for pitch in pitches]
    return np.stack(voices, axis=1).astype(np.float32)


def write_corpus(folder, count=3, seconds=4.0, rate_hz=4000, channels=2):
    """Writes `count` WAVs of `tones` to `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        soundfile.write(folder / f"piece-{i}.wav", tones(seconds, rate_hz, channels, i), rate_hz, subtype="PCM_16")
    return folder


def command(*arguments, **options):
    """Runs `python -m mp3net.<arguments>` in a process of its own; returns the finished process."""
    line = [sys.executable, "-m", f"mp3net.{arguments[0]}", *map(str, arguments[1:])]
    return subprocess.run(line, capture_output=True, text=True, timeout=900, check=False, **options)


def assert_refuses(main, arguments, error, *words):
    """Asserts that a command's `main`, in this process, raises just `error`, with `words`: what `cli.run` tells."""
    with pytest.raises(error) as told:
        main([str(argument) for argument in arguments])
    assert type(told.value) is error
    for word in words:
        assert str(word) in str(told.value), (word, str(told.value))


def assert_told(process, status, *words):
    """Asserts that a process ended with `status` and one or two lines on stderr that hold `words`, and no traceback."""
    assert process.returncode == status, (process.returncode, process.stdout, process.stderr)
    assert "Traceback" not in process.stderr, process.stderr
    last = process.stderr.strip()
    assert last, "nothing was said"
    for word in words:
        assert str(word) in last, (word, last)
