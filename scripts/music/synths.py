"""The two ways to make notes sound: FluidSynth with a sampled piano, or the built-in additive piano."""

import hashlib
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
import soundfile

from mp3net.errors import UserError

from . import midi, piano

FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts", "/usr/local/share/soundfonts")
# Best piano first.
PREFERRED = (
    "MuseScore_General_Full.sf2",
    "MuseScore_General.sf3",
    "FluidR3_GM.sf2",
    "MuseScore_General_Lite.sf3",
    "FluidR3Mono_GM.sf3",
    "TimGM6mb.sf2",
)
MONO = ("FluidR3Mono_GM.sf3", "TimGM6mb.sf2")  # their piano is the same on both sides
STEREO = "musescore-general-soundfont-small"
ADVICE = f"for a sampled piano: apt-get install fluidsynth {STEREO}"
GAIN = 1.8
SILENT, REST_S = 1e-4, 0.5  # after the last sample above this part of the peak, so much is kept
LIMIT_S = 3600


def find_soundfont(folders=FOLDERS):
    """The best sound font that is installed, or None."""
    found = [path for folder in folders if pathlib.Path(folder).is_dir() for path in pathlib.Path(folder).iterdir()]
    found = sorted(path for path in found if path.suffix.lower() in (".sf2", ".sf3") and path.is_file())
    ranks = {name: rank for rank, name in enumerate(PREFERRED)}
    return min(found, key=lambda path: ranks.get(path.name, len(PREFERRED)), default=None)


class Additive:
    """The built-in piano."""

    def __init__(self):
        # Its own source is its version: a changed piano renders anew.
        self.mark = "additive " + hashlib.sha256(pathlib.Path(piano.__file__).read_bytes()).hexdigest()[:16]

    def render(self, file, rate_hz):
        """A `mido.MidiFile` to float32 [sample, 2]. Raises `midi.DamagedMidi`."""
        return piano.render(midi.sounds(file), rate_hz)


class FluidSynth:
    """FluidSynth and a sound font. Raises `UserError` where the font is missing or is none."""

    def __init__(self, program, soundfont):
        self.program, self.soundfont = program, pathlib.Path(soundfont)
        try:
            with open(self.soundfont, "rb") as file:
                data = file.read()
        except FileNotFoundError as error:
            raise UserError(f"{soundfont}: there is no such sound font; {ADVICE}.") from error
        except IsADirectoryError as error:
            raise UserError(f"{soundfont}: is a folder; --soundfont takes one .sf2 or .sf3 file.") from error
        if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
            raise UserError(f"{soundfont}: is not a sound font (.sf2 or .sf3).")
        self.version = _version(program)
        self.mark = f"fluidsynth {self.version} {hashlib.sha256(data).hexdigest()[:16]} gain {GAIN}"

    def render(self, file, rate_hz):
        """A `mido.MidiFile` to float32 [sample, 2]. Raises `midi.DamagedMidi`, `UserError`."""
        midi.sounds(file)  # where there are no notes, say so
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "piece.mid"), pathlib.Path(folder, "piece.wav")
            midi.as_piano(file).save(source)
            settings = ["-ni", "-q", "-R", "1", "-C", "0", "-g", str(GAIN), "-r", str(rate_hz)]
            output = ["-O", "float", "-T", "wav", "-F", str(target)]
            waveform, told = _run([self.program, *settings, *output, str(self.soundfont), str(source)], target)
        if waveform is None or not np.any(waveform):
            raise UserError(f"FluidSynth made no sound with {self.soundfont}: {told or 'it gives no reason'}.")
        peak = float(np.abs(waveform).max())
        # FluidSynth plays on for seconds after the last note, by its version.
        last = int(np.flatnonzero(np.abs(waveform).max(axis=1) > SILENT * peak)[-1])
        return waveform[: last + int(REST_S * rate_hz)] * min(1.0, piano.CEILING / peak)


def _run(command, target):
    """(waveform or None, the last line that the program wrote)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"FluidSynth took more than {LIMIT_S} s for one piece; use --synth additive.") from error
    lines = (done.stderr + done.stdout).strip().splitlines()
    if done.returncode or not target.exists():
        return None, lines[-1] if lines else ""
    return soundfile.read(target, dtype="float32", always_2d=True)[0], lines[-1] if lines else ""


def _version(program):
    told = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False).stdout
    words = told.split()
    return next((word for word in words if word[:1].isdigit()), "?")


def choose(wanted, soundfont=None):
    """The synthesiser for `wanted` (auto, fluidsynth, additive), and a line that says which and why."""
    program = None if wanted == "additive" else shutil.which("fluidsynth")
    font = soundfont or find_soundfont()
    if program and font:
        made = FluidSynth(program, font)
        name = pathlib.Path(font).resolve().name
        mono = f" (its piano is mono; in stereo: apt-get install {STEREO})" if name in MONO else ""
        return made, f"FluidSynth {made.version} with {name}{mono}"
    lacks = "FluidSynth is not installed" if not program else "no sound font was found"
    if wanted == "fluidsynth" or (soundfont and wanted == "auto"):
        raise UserError(f"{lacks}; {ADVICE} (or --synth additive).")
    if wanted == "additive":
        return Additive(), "the built-in additive piano"
    return Additive(), f"the built-in additive piano ({lacks}; {ADVICE})"
