"""MIDI files as notes in seconds, with tempo changes and the sustain pedal already worked in."""

import dataclasses
import io

import mido

SUSTAIN, PEDAL_DOWN = 64, 64  # controller number; values from here on hold the notes
DRUMS = 9
LONGEST_S = 3 * 3600.0


class DamagedMidi(Exception):
    """A MIDI file that cannot be played, and why."""


@dataclasses.dataclass(frozen=True)
class Sound:
    """One note as it sounds, seconds from the start of the file; `end_s` is when its damper falls."""

    start_s: float
    end_s: float
    pitch: int
    velocity: int


def read(data):
    """Reads the bytes of a MIDI file into a `mido.MidiFile`. Raises `DamagedMidi`."""
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
        length_s = file.length
    except Exception as error:  # mido meets damage with whatever its parser stumbles over
        raise DamagedMidi(f"not a readable MIDI file ({type(error).__name__}: {error or 'cut short'})") from error
    if not 0 < length_s <= LONGEST_S:
        raise DamagedMidi(f"it lasts {length_s:,.0f} s by its own count; up to {LONGEST_S:,.0f} s is played")
    return file


class _Keys:
    """Which keys sound while a file is read. Keys and pedals are kept for each MIDI channel."""

    def __init__(self):
        self.sounding, self.held, self.pedals, self.sounds = {}, set(), set(), []

    def stop(self, key, now_s):
        start_s, velocity = self.sounding.pop(key)
        self.held.discard(key)
        self.sounds.append(Sound(start_s, now_s, key[1], velocity))

    def on(self, key, velocity, now_s):
        if key in self.sounding:
            self.stop(key, now_s)
        self.sounding[key] = (now_s, velocity)

    def off(self, key, now_s):
        if key not in self.sounding:
            return
        if key[0] in self.pedals:
            self.held.add(key)
        else:
            self.stop(key, now_s)

    def pedal(self, channel, down, now_s):
        if down:
            self.pedals.add(channel)
            return
        self.pedals.discard(channel)
        for key in [key for key in self.held if key[0] == channel]:
            self.stop(key, now_s)


def sounds(file):
    """The notes of a `mido.MidiFile`, by onset, without drums. Raises `DamagedMidi` where there are none."""
    keys, now_s = _Keys(), 0.0
    for message in file:
        now_s += message.time
        if message.is_meta or getattr(message, "channel", DRUMS) == DRUMS:
            continue
        if message.type == "note_on" and message.velocity:
            keys.on((message.channel, message.note), message.velocity, now_s)
        elif message.type in ("note_on", "note_off"):
            keys.off((message.channel, message.note), now_s)
        elif message.type == "control_change" and message.control == SUSTAIN:
            keys.pedal(message.channel, message.value >= PEDAL_DOWN, now_s)
    for key in list(keys.sounding):
        keys.stop(key, now_s)
    if not keys.sounds:
        raise DamagedMidi("it holds no notes")
    return sorted(keys.sounds, key=lambda sound: (sound.start_s, sound.pitch))


def as_piano(file):
    """A copy in which everything plays on the piano, and drums not at all."""
    made = mido.MidiFile(type=1, ticks_per_beat=file.ticks_per_beat)
    for track in file.tracks:
        kept, waited = mido.MidiTrack(), 0
        for message in track:
            waited += message.time
            if message.type in ("program_change", "end_of_track") or getattr(message, "channel", None) == DRUMS:
                continue
            kept.append(message.copy(time=waited))
            waited = 0
        kept.append(mido.MetaMessage("end_of_track", time=waited))
        made.tracks.append(kept)
    return made
