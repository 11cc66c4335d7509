"""A piece as a pianist would play it: loudness by phrase, tempo that breathes, pedal, and small seeded unevenness."""

import bisect
import dataclasses
import io
import zlib
from fractions import Fraction

import mido
import numpy as np

PULSES = 960  # MIDI ticks per quarter note
LEVELS = {"pp": 34, "p": 46, "mp": 58, "mf": 70, "f": 84, "ff": 98}
PEDAL_LIFT_S, PEDAL_PRESS_S = 0.01, 0.09  # after the beat: the old harmony is damped, the new one caught
END_S = 2.5  # the last chord rings this long under the pedal
GRACE_S, ROLL_S = 0.08, 0.045
SHORTEST = 40  # ticks between two strokes of one key
TIMING_S, TEMPO_DRIFT, VELOCITY_SPREAD = 0.006, 0.012, 2.5  # standard deviations of the unevenness


@dataclasses.dataclass
class Bar:
    """One bar as it sounds. Positions in whole notes from the start of the piece; levels are MIDI velocities."""

    start: Fraction
    length: Fraction
    level: float
    next_level: float
    pedal: str
    bpm: float
    next_bpm: float


def _levels(marks):
    """Loudness at the start and at the end of each bar: [(start, end)]. `-` goes on with what the last mark began."""
    out, current, slope = [], LEVELS["mp"], 0.0
    for index, mark in enumerate(marks):
        if mark in LEVELS:
            current, slope = LEVELS[mark], 0.0
        elif mark in "<>":
            goals = [(at, LEVELS[later]) for at, later in enumerate(marks) if at > index and later in LEVELS]
            at, goal = goals[0] if goals else (len(marks), current)
            slope = (goal - current) / (at - index)
        out.append((current, current + slope))
        current += slope
    return out


def bars_of(piece, random, tempo_scale=1.0):
    """The bars in the order they sound, and [(note, start of its section)]."""
    base = float(piece.header["tempo"]) * tempo_scale
    bars, notes, start = [], [], Fraction(0)
    for name, added in piece.order:
        section = piece.sections[name]
        notes += [(note, start) for note in section.notes]
        drift = 1 + TEMPO_DRIFT * random.standard_normal(len(section.bars))
        tempos = [base * (1 if mark == "-" else float(mark) / 100) for mark in section.tempos]
        tempos = list(np.array(tempos) * drift)
        levels = _levels(section.dynamics)
        for index, length in enumerate(section.bars):
            following = tempos[min(index + 1, len(tempos) - 1)]
            level, next_level = (value + added for value in levels[index])
            pedal = section.pedals[index]
            bars.append(Bar(start, length, level, next_level, pedal, tempos[index], following))
            start += length
    return bars, notes


class _Track:
    """MIDI messages at absolute ticks."""

    def __init__(self):
        self.events = []

    def add(self, tick, message):
        # Releases come before presses of the same tick, or a repeated key would be cut off at once.
        rank = 0 if message.type != "note_on" else 1
        self.events.append((max(0, round(tick)), rank, len(self.events), message))

    def track(self):
        made, now = mido.MidiTrack(), 0
        for tick, _, _, message in sorted(self.events, key=lambda event: event[:3]):
            made.append(message.copy(time=tick - now))
            now = tick
        return made


def _tempo_track(piece, bars):
    track = _Track()
    numerator, denominator = (int(part) for part in piece.header["time"].split("/"))
    track.add(0, mido.MetaMessage("track_name", name=piece.header["title"]))
    track.add(0, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))
    for bar in bars:
        steps = max(1, int(bar.length * 4))
        for step in range(steps):
            bpm = bar.bpm + (bar.next_bpm - bar.bpm) * step / steps
            tick = (bar.start + bar.length * step / steps) * 4 * PULSES
            track.add(float(tick), mido.MetaMessage("set_tempo", tempo=round(60e6 / bpm)))
    return track.track()


def _pedal(track, bars):
    """CC64: lifted just after the harmony changes, pressed again while its notes are held."""
    down = False
    for bar in bars:
        per_second = bar.bpm / 60 * PULSES
        changes = int(bar.pedal) if bar.pedal.isdigit() else 0
        for index in range(changes):
            tick = float((bar.start + bar.length * index / changes) * 4 * PULSES)
            track.add(tick + PEDAL_LIFT_S * per_second, mido.Message("control_change", control=64, value=0))
            track.add(tick + PEDAL_PRESS_S * per_second, mido.Message("control_change", control=64, value=112))
            down = True
        if bar.pedal == "0" and down:
            track.add(float(bar.start * 4 * PULSES), mido.Message("control_change", control=64, value=0))
            down = False


def _velocity(piece, note, bar, base, random):
    along = float((note.onset + base - bar.start) / bar.length)
    velocity = bar.level + (bar.next_level - bar.level) * along + piece.voices.get(note.voice, 0)
    velocity += 3 * (along == 0) - 4 * (note.rank > 0) + 12 * note.accent
    return int(np.clip(round(velocity + VELOCITY_SPREAD * random.standard_normal()), 8, 120))


def _presses(piece, bars, notes, random):
    """[(tick, end, pitch, velocity)] of every key, in the order of time."""
    starts, out = [bar.start for bar in bars], []
    for note, base in notes:
        position = base + note.onset
        bar = bars[bisect.bisect_right(starts, position) - 1]
        per_second = bar.bpm / 60 * PULSES
        late = float(np.clip(TIMING_S * random.standard_normal(), -2 * TIMING_S, 2 * TIMING_S)) + ROLL_S * note.roll
        tick = float(position * 4 * PULSES) + late * per_second
        held = float(position + note.length * (Fraction(9, 20) if note.short else Fraction(97, 100)))
        velocity = _velocity(piece, note, bar, base, random)
        for back, pitch in enumerate(reversed(note.graces), 1):
            out.append((tick - GRACE_S * back * per_second, tick, pitch, max(8, velocity - 10)))
        out.append((tick, held * 4 * PULSES, note.pitch, velocity))
    return sorted((max(0, round(tick)), round(end), pitch, velocity) for tick, end, pitch, velocity in out)


def _notes(track, presses):
    """Key presses as messages. A key is let go before it is struck again, even where two voices overlap."""
    following = {}
    for tick, end, pitch, velocity in reversed(presses):
        again = following.get(pitch)
        if again is not None and again - tick < SHORTEST:
            continue  # two voices on one key at once: one stroke
        following[pitch] = tick
        end = max(end, tick + SHORTEST - 5)
        end = end if again is None else min(end, again - 5)
        track.add(tick, mido.Message("note_on", note=pitch, velocity=velocity))
        track.add(end, mido.Message("note_off", note=pitch, velocity=64))


class _Even:
    """Stands in for the random generator where the music is to be exact, as in tests."""

    def standard_normal(self, size=None):
        return 0.0 if size is None else np.zeros(size)


def perform(piece, take=0, human=True):
    """A `mido.MidiFile` of the piece; each `take` is another performance, the same at every call.

    With `human` false the notes fall exactly where they are written.
    """
    random = np.random.default_rng([zlib.crc32(piece.name.encode()), take]) if human else _Even()
    tempo_scale = 1 + 0.05 * np.tanh(random.standard_normal()) if take else 1.0
    bars, notes = bars_of(piece, random, tempo_scale)
    track = _Track()
    _pedal(track, bars)
    _notes(track, _presses(piece, bars, notes, random))
    end = float((bars[-1].start + bars[-1].length) * 4 * PULSES)
    ring = end + END_S * bars[-1].next_bpm / 60 * PULSES
    track.add(ring, mido.Message("control_change", control=64, value=0))
    file = mido.MidiFile(type=1, ticks_per_beat=PULSES)
    file.tracks += [_tempo_track(piece, bars), track.track()]
    return file


def midi_bytes(file):
    """The file as it would lie on disk."""
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
