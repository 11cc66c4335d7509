"""A small additive piano: damped, slightly inharmonic partials for each key, two strings that beat, a hammer's knock.

It stands in where FluidSynth is missing. It is not sampled, but it has what a model of piano music can learn from:
a sharp attack, upper partials that are stronger in loud notes and fade sooner, pedal, dampers and a wide stereo image.
"""

import numpy as np

LOWEST, HIGHEST = 21, 108
UNDAMPED = 90  # keys from here up have no damper
RING_S = 2.5  # kept after the last damper falls
BLOCK = 2048  # samples computed from one table of rotating phasors
MOST_PARTIALS = 48
STRIKE = 1 / 8  # the hammer's place along the string
KNOCKS_HZ = np.array([62.0, 97.0, 143.0, 211.0, 305.0, 437.0])  # resonances of case and soundboard
GAIN = 0.3
ROOM_S, ROOM_LEVEL = 0.9, 0.045
CEILING = 0.95


def frequency_hz(pitch):
    """Equal temperament, A4 = 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def partials_hz(pitch, rate_hz):
    """Frequencies of a key's partials below the ceiling of hearing or of the rate, the first exactly in tune."""
    stiffness = np.exp(0.0926 * pitch - 13.64) + np.exp(-0.0847 * pitch - 5.8)
    number = np.arange(1, MOST_PARTIALS + 1)
    hz = number * frequency_hz(pitch) * np.sqrt((1 + stiffness * number**2) / (1 + stiffness))
    return hz[hz < min(16000.0, 0.45 * rate_hz)]


def decay_s(pitch, hz):
    """Time in which a partial falls to 1/e just after the attack: shorter for higher keys and for higher partials."""
    return 3.3 * 2.0 ** (-(pitch - 36) / 22) / (1 + np.asarray(hz) / 900.0)


def _modes(pitch, rate_hz):
    """Damped sinusoids of one key: frequency in Hz, decay in 1/s, and amplitudes [left/right x soft/loud, mode]."""
    random = np.random.default_rng(pitch)
    hz = partials_hz(pitch, rate_hz)
    number = np.arange(1, len(hz) + 1)
    shape = (np.abs(np.sin(np.pi * number * STRIKE)) + 0.06) / number**0.6
    soft, loud = shape * np.exp(-hz / 750.0), shape * np.exp(-hz / 2600.0)
    # Two polarisations of each string: one strong and quick to fade, one weaker, slower, a hair out of tune.
    detune_hz = 0.05 + 0.0002 * hz
    slow = 0.25 / (1 + hz / 1200.0)
    fast = 1 / decay_s(pitch, hz)
    knock = 0.05 * np.exp(-KNOCKS_HZ / 300.0)
    modes_hz = np.concatenate([hz, hz + detune_hz, KNOCKS_HZ])
    decay = np.concatenate([fast, fast / 4.5, np.full(len(KNOCKS_HZ), 28.0)])
    level = np.stack(
        [np.concatenate([(1 - slow) * tone, slow * tone, knock * part]) for tone, part in ((soft, 0.4), (loud, 1.2))]
    )
    place = np.clip((pitch - 64) / 60 + 0.25 * random.uniform(-1, 1, len(modes_hz)), -0.8, 0.8)
    sides = np.stack([np.cos((1 + place) * np.pi / 4), np.sin((1 + place) * np.pi / 4)])
    phases = np.exp(1j * random.uniform(-0.6, 0.6, (2, len(modes_hz)))) * -1j
    amplitudes = (sides * phases)[:, None] * level[None]
    # Equal loudness over the keyboard, a little less towards the top.
    power = np.sqrt(np.sum(loud**2)) * 2.0 ** ((pitch - 60) / 72)
    return modes_hz, decay, amplitudes.reshape(4, -1) / power


def key_sound(pitch, length, rate_hz):
    """One key held for `length` samples, struck softly and loudly: float32 [soft/loud, sample, left/right]."""
    hz, decay, amplitudes = _modes(pitch, rate_hz)
    speed = (2j * np.pi * hz - decay) / rate_hz  # log of one sample's turn and fading
    table = np.exp(speed[:, None] * np.arange(BLOCK)).astype(np.complex64)
    starts = np.exp(speed * (np.arange(-(-length // BLOCK)) * BLOCK)[:, None])
    weights = (amplitudes[:, None] * starts[None]).astype(np.complex64)  # [side x touch, block, mode]
    # The real part of a complex product, as one real matrix product.
    left = np.concatenate([weights.real, -weights.imag], axis=-1).reshape(-1, 2 * len(hz))
    sound = left @ np.concatenate([table.real, table.imag])
    sound = sound.reshape(2, 2, -1)[:, :, :length]
    rise = max(2, int(rate_hz * (0.0015 + 0.004 * (HIGHEST - pitch) / (HIGHEST - LOWEST))))
    sound[:, :, :rise] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(min(rise, length), dtype=np.float32) / rise)
    return np.ascontiguousarray(sound.transpose(1, 2, 0))


def touch(velocity):
    """How much of the soft and of the loud sound a MIDI velocity gives."""
    force = velocity / 127
    gain, bright = force**1.7, np.clip(force * 1.15 - 0.15, 0, 1)
    return gain * (1 - bright) * 1.3, gain * bright


def _damper_s(pitch):
    """Time constant of the damper, longer on the heavy strings."""
    return 0.05 + 0.09 * max(0.0, (64 - pitch) / 43)


def _spans(sounds, rate_hz):
    """For each pitch the notes as (first sample, samples until the damper falls, samples in all, velocity)."""
    spans = {}
    last_s = max(sound.end_s for sound in sounds) + RING_S
    for sound in sounds:
        pitch = min(max(sound.pitch, LOWEST), HIGHEST)
        held = sound.end_s - sound.start_s
        if pitch >= UNDAMPED:
            held = max(held, min(1.5, last_s - sound.start_s))
        life_s = 10 * 4.5 * float(decay_s(pitch, frequency_hz(pitch)))  # by then it is 87 dB down
        held = min(held, life_s, last_s - sound.start_s)
        total = held + 9 * _damper_s(pitch)
        first = int(sound.start_s * rate_hz)
        spans.setdefault(pitch, []).append((first, int(held * rate_hz), max(1, int(total * rate_hz)), sound.velocity))
    return spans


def render(sounds, rate_hz):
    """Plays `midi.Sound`s: float32 [sample, 2], within +-0.95, with `RING_S` after the last damper falls."""
    length = int((max(sound.end_s for sound in sounds) + RING_S) * rate_hz) + 1
    mix = np.zeros((length, 2), np.float32)
    for pitch, spans in sorted(_spans(sounds, rate_hz).items()):
        soft, loud = key_sound(pitch, max(span[2] for span in spans), rate_hz)
        damper = np.exp(-np.arange(int(10 * _damper_s(pitch) * rate_hz)) / (_damper_s(pitch) * rate_hz))
        damper = damper.astype(np.float32)[:, None]
        for first, held, total, velocity in spans:
            total = min(total, length - first)
            quiet, strong = (np.float32(GAIN * part) for part in touch(velocity))
            note = soft[:total] * quiet
            note += loud[:total] * strong
            if held < total:
                note[held:] *= damper[: total - held]
            mix[first : first + total] += note
    mix += room(mix, rate_hz)
    peak = float(np.abs(mix).max())
    if peak > CEILING:
        mix *= CEILING / peak
    return mix


def room(dry, rate_hz):
    """The reflections of a small room, each side its own: float32 [sample, 2]."""
    random = np.random.default_rng(7)
    size = int(ROOM_S * rate_hz)
    time_s = np.arange(size) / rate_hz
    echo = random.standard_normal((size, 2)) * np.exp(-time_s * 6.9 / ROOM_S)[:, None]
    echo[: int(0.012 * rate_hz)] = 0  # the first wall is some two metres away
    echo = echo + np.roll(echo, 1, axis=0) + np.roll(echo, 2, axis=0)  # walls take the highest frequencies
    echo *= ROOM_LEVEL / np.sqrt((echo**2).sum(axis=0)) * 3
    block = 1 << 17
    span = block + size
    spectrum = np.fft.rfft(echo, span, axis=0)
    wet = np.zeros((len(dry) + size, 2), np.float32)
    for start in range(0, len(dry), block):
        part = np.fft.irfft(np.fft.rfft(dry[start : start + block], span, axis=0) * spectrum, span, axis=0)
        end = min(start + span, len(wet))
        wet[start:end] += part[: end - start]
    return wet[: len(dry)]
