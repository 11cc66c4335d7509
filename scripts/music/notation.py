"""Piano music as text: parallel voices, bar by bar, each bar checked against the time signature.

A file is a header of `name: value` lines, then sections. Lines that begin with `# ` are comments.

    time: 3/4
    tempo: 120                          quarter notes per minute
    voices: R=0 L=-8                    velocity added to each voice
    play: A A-8 B                       sections in the order they sound, each with a velocity added or taken

    [A]
    R  d5:4 g4:8 a4 b4 c5 | d5:4 g4 g4  voice R; `:4` a quarter, `:8.` dotted, `:8t` a triplet; until changed
    L  g3,b3,d4:2 a3:4 | b3:2.          chords by commas; r is a rest; c4 is middle C; f#4, bb3
    D  p <                              one loudness per bar: pp p mp mf f ff, - goes on, < or > slides to the next mark
    P  1 2                              pedal changes per bar: 0 none, = held over
    T  - 96                             per cent of the tempo at the start of each bar, sliding to the next; - is 100

Notes may end in ~ (tied), ! (short), > (accent), & (rolled); `^b4` is a grace note; `( ... )*4` repeats.
A bar that begins with `<1/8>` has that length, in every voice. In D, P and T `-*3` is `- - -`.
`[pattern name]` holds voices with $1, $2 ..; in a section the line `*name c4 e4 | d4 f4` plays it, one bar each.
"""

import dataclasses
import re
from fractions import Fraction

from mp3net.errors import UserError

STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
SHIFTS = {"": 0, "#": 1, "##": 2, "b": -1, "bb": -2}
_PITCH = r"[a-g](?:##|#|bb|b)?\d"
_TOKEN = re.compile(
    rf"(?P<grace>\^)?(?P<pitch>r|{_PITCH}(?:,{_PITCH})*)(?::(?P<value>\d+)(?P<dots>\.*)(?P<triplet>t)?)?(?P<flags>[~!>&]*)"
)
_GROUP = re.compile(r"\(([^()|]*)\)\*(\d+)")
_ROWS = {"D": "dynamics", "P": "pedals", "T": "tempos"}
REQUIRED = ("composer", "title", "key", "includes", "year", "split", "time", "tempo", "play")


class NotationError(UserError):
    """A piece that cannot be read: which file, section, voice and bar, and why."""


@dataclasses.dataclass
class Note:
    """One key pressed. `onset` (from the start of its section) and `length` in whole notes, `pitch` as in MIDI."""

    onset: Fraction
    length: Fraction
    pitch: int
    voice: str
    rank: int = 0  # 0: the highest of its chord
    graces: tuple = ()
    short: bool = False
    accent: bool = False
    roll: int = 0  # place, from the lowest, in a rolled chord


@dataclasses.dataclass
class Section:
    """Bars with their lengths in whole notes, the notes in them, and one mark of each kind for each bar."""

    bars: list
    notes: list
    dynamics: list
    pedals: list
    tempos: list


@dataclasses.dataclass
class Piece:
    """`header`: name to text. `order`: (section, velocity added), as they sound. `voices`: velocity added to each."""

    name: str
    header: dict
    sections: dict
    order: list
    voices: dict


def pitch_number(text):
    """`c4` to 60, `f#4` to 66, `bb3` to 58."""
    return 12 * (int(text[-1]) + 1) + STEPS[text[0]] + SHIFTS[text[1:-1]]


class _Voice:
    """One voice of one section while it is read."""

    def __init__(self, label, time):
        self.label, self.time = label, time
        self.bars, self.notes = [], []
        self.position, self.length = Fraction(0), Fraction(1, 4)
        self.tied, self.graces = {}, ()

    def add_line(self, text):
        for bar in _expand(text).strip().strip("|").split("|"):
            self.add_bar(bar.split())

    def add_bar(self, tokens):
        where = f"{self.label}, bar {len(self.bars) + 1}"
        due = self.time
        if tokens and tokens[0].startswith("<"):
            due = Fraction(tokens.pop(0).strip("<>"))
        start = self.position
        for token in tokens:
            self.add_token(token, where)
        if self.position - start != due:
            raise NotationError(f"{where}: its durations add up to {self.position - start}, not to {due}.")
        self.bars.append(due)

    def add_token(self, token, where):
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise NotationError(f"{where}: cannot read '{token}'.")
        pitches = [] if match["pitch"] == "r" else [pitch_number(text) for text in match["pitch"].split(",")]
        if match["grace"]:
            self.graces += tuple(pitches)
            return
        if match["value"]:
            self.length = _length(match)
        broken = set(self.tied) - set(pitches)
        if broken:
            raise NotationError(f"{where}: a tie leads to '{token}', which does not hold its note.")
        self.add_notes(sorted(pitches), match["flags"])
        self.position += self.length

    def add_notes(self, pitches, flags):
        tied = {}
        for index, pitch in enumerate(pitches):
            note = self.tied.get(pitch)
            if note is None:
                note = Note(self.position, Fraction(0), pitch, self.label.split()[-1], len(pitches) - 1 - index)
                note.graces = self.graces if note.rank == 0 else ()
                note.short, note.accent = "!" in flags, ">" in flags
                note.roll = index if "&" in flags else 0
                self.notes.append(note)
            note.length += self.length
            if "~" in flags:
                tied[pitch] = note
        if pitches:
            self.graces = ()
        self.tied = tied


def _length(match):
    base = Fraction(1, int(match["value"]))
    dots = len(match["dots"])
    length = base * (2 - Fraction(1, 2**dots))
    return length * Fraction(2, 3) if match["triplet"] else length


def _expand(text):
    """Writes `( ... )*n` out."""
    while True:
        text, found = _GROUP.subn(lambda match: " ".join([match[1]] * int(match[2])), text)
        if not found:
            return text


def _row(text):
    """The marks of a D, P or T line, one for each bar."""
    marks = []
    for token in text.replace("|", " ").split():
        mark, _, count = token.partition("*")
        marks += [mark] * int(count or 1)
    return marks


def _fill(template, values, where):
    """A pattern's voice with $1, $2 .. replaced."""

    def value(match):
        index = int(match[1]) - 1
        if index >= len(values):
            raise NotationError(f"{where}: the pattern wants ${index + 1}, and there are {len(values)} values.")
        return values[index]

    return re.sub(r"\$(\d)", value, template)


def _section(file, name, lines, patterns, time):
    """Reads the lines of one section."""
    voices, rows = {}, {kind: [] for kind in _ROWS}

    def voice(label):
        return voices.setdefault(label, _Voice(f"{file}: section {name}, voice {label}", time))

    for line in lines:
        label, _, text = line.partition(" ")
        if label in _ROWS:
            rows[label] += _row(text)
        elif not label.startswith("*"):
            voice(label).add_line(text)
        elif label[1:] not in patterns:
            raise NotationError(f"{file}: section {name}: there is no pattern '{label[1:]}'.")
        else:
            for bar in text.strip().strip("|").split("|"):
                for part, template in patterns[label[1:]].items():
                    voice(part).add_line(_fill(template, bar.split(), f"{file}: section {name}"))
    return _joined(file, name, voices, rows)


def _joined(file, name, voices, rows):
    """Checks that voices and marks agree in their bars, and makes the `Section`."""
    if not voices:
        raise NotationError(f"{file}: section {name} has no voice.")
    first = next(iter(voices.values()))
    for one in voices.values():
        if one.tied:
            raise NotationError(f"{one.label}: a tie leads out of the section.")
        if len(one.bars) != len(first.bars):
            raise NotationError(f"{one.label}: {len(one.bars)} bars, but {len(first.bars)} in the first voice.")
        for number, (length, expected) in enumerate(zip(one.bars, first.bars, strict=True), 1):
            if length != expected:
                raise NotationError(f"{one.label}, bar {number}: {length} long, but {expected} in the first voice.")
    for kind, marks in rows.items():
        if marks and len(marks) != len(first.bars):
            raise NotationError(f"{file}: section {name}: {len(marks)} marks in {kind} for {len(first.bars)} bars.")
    notes = sorted((note for one in voices.values() for note in one.notes), key=lambda note: (note.onset, note.pitch))
    defaults = {"D": "-", "P": "0", "T": "-"}
    marks = {_ROWS[kind]: marks or [defaults[kind]] * len(first.bars) for kind, marks in rows.items()}
    return Section(first.bars, notes, **marks)


def _blocks(text):
    """The header, and the lines under each `[name]`."""
    header, blocks, current = {}, {}, None
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("# "):
            continue
        if line.startswith("[") and line.endswith("]"):
            current = blocks.setdefault(line[1:-1], [])
        elif current is not None:
            current.append(line)
        else:
            key, _, value = line.partition(":")
            header[key.strip()] = value.strip()
    return header, blocks


def parse(text, file):
    """Reads a piece; `file` is the name used in messages. Raises `NotationError`."""
    header, blocks = _blocks(text)
    missing = [key for key in REQUIRED if not header.get(key)]
    if missing:
        raise NotationError(f"{file}: the header lacks {', '.join(missing)}.")
    patterns = {}
    for name in [name for name in blocks if name.startswith("pattern ")]:
        patterns[name.split()[1]] = {line.split()[0]: line.partition(" ")[2] for line in blocks.pop(name)}
    time = Fraction(header["time"])
    sections = {name: _section(file, name, lines, patterns, time) for name, lines in blocks.items()}
    order = []
    for token in header["play"].split():
        match = re.fullmatch(r"(\w+?)([+-]\d+)?", token)
        if match is None or match[1] not in sections:
            raise NotationError(f"{file}: play: there is no section '{token}'.")
        order.append((match[1], int(match[2] or 0)))
    voices = {name: int(value) for name, _, value in (pair.partition("=") for pair in header.get("voices", "").split())}
    return Piece(file, header, sections, order, voices)
