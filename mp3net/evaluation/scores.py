"""Two sets of songs, generated and real, to one row of numbers; and rows to files."""

import csv
import json
import math
import os

import numpy as np

from mp3net.evaluation import coherence, diversity, frechet, loudness

SIDES = ("generated", "real")


def scores(generated, real, held_out=(), more=(), ends=()):
    """All measures of two sets of songs.

    Args:
      generated, real: lists of `Description`; the real ones are of the training set, where there is one.
      held_out: more of them, of music that was not trained on.
      more: (name, features `[window, feature]`) of further songs of the training set, where copies are looked for too.
      ends: as `more`, of such as overlap with those: how near songs come that are no copies is told without them.

    Returns: (row, notes): plain numbers by name, None where there is too little to measure, and then a note that says
    so. Names that end in a side, `_generated` or `_real`, are that side's; README.md says how to read each.
    """
    row, notes = {}, []
    for side, songs in zip(SIDES, (generated, real), strict=True):
        row.update({f"{name}_{side}": value for name, value in _of_one_set(songs).items()})
        notes += _notes(side, songs)
    heard_generated, heard_real = ([song for song in songs if song.features is not None] for songs in (generated, real))
    row["tonality_gap"] = _difference(row["tonality_real"], row["tonality_generated"])
    row.update(_frechet(heard_generated, heard_real, notes))
    row.update(_coherence(heard_generated, heard_real, notes))
    row.update(_diversity(heard_generated, heard_real, more, ends, notes))
    if held_out:
        row.update(_of_held_out(heard_generated, heard_real, held_out, more, ends, notes))
    return {name: _plain(value) for name, value in row.items()}, notes


def _of_one_set(songs):
    """Means and medians over the songs of a set, by name without the side."""
    heard = [song for song in songs if not song.silent]
    weights = [song.seconds for song in heard]
    found = {
        "songs": len(songs),
        "seconds": sum(song.seconds for song in songs),
        "silent": sum(song.silent for song in songs),
        "clipped": _mean([song.loudness["clipped"] for song in songs]),
        "rms_db": _mean([song.loudness["rms_db"] for song in heard]),
        "rms_db_spread": _spread([song.loudness["rms_db"] for song in heard]),
        "dynamics_db": _mean([song.loudness["dynamics_db"] for song in heard]),
        "tonality": _mean([song.tonality for song in heard], weights),
        "tonality_noised": _mean([song.tonality_noised for song in heard], weights),
        "onset_spread_ms": _median([song.timbre.get("onset_spread_ms") for song in heard]),
        "decay_tilt": _median([song.timbre.get("decay_tilt") for song in heard]),
    }
    for i in range(max((len(song.octaves) for song in heard), default=0)):
        found[f"tonality_octave_{i + 1}"] = _mean([song.octaves[i] for song in heard if song.octaves])
    hums = [song.hum_db for song in heard if song.hum_db]
    found["hum_db"] = _mean_power_db([hum["all"] for hum in hums])
    for period in sorted({period for hum in hums for period in hum if period != "all"}):
        found[f"hum_db_period_{period}"] = _mean_power_db([hum[period] for hum in hums])
    return found


def _notes(side, songs):
    notes = []
    if not songs:
        notes.append(f"no {side} songs")
    silent = sum(song.silent for song in songs)
    if silent:
        below = f"below {loudness.SILENT_DB:.0f} dB RMS"
        notes.append(f"{silent} of {len(songs)} {side} songs are silent ({below}): they have no other figures")
    clipped = sum(song.loudness["clipped"] > 0.001 for song in songs)
    if clipped:
        notes.append(f"{clipped} of {len(songs)} {side} songs are clipped")
    if songs and not any(song.hum_db for song in songs if not song.silent):
        notes.append(f"{side} songs are too short for the hum: it takes 128 blocks")
    return notes


def _frechet(generated, real, notes):
    moments = [[frechet.Moments(song.features) for song in songs] for songs in (generated, real)]
    found = frechet.extrapolated(*moments)
    if found is None:
        notes.append(f"frechet_distance takes 4 songs of each side; there are {len(generated)} and {len(real)}")
        found = (None, None, None)
    return dict(zip(("frechet_distance", "frechet_distance_error", "frechet_distance_finite"), found, strict=True))


def _coherence(generated, real, notes):
    row = {}
    for name, kind in (("tempo_constancy", "rhythm"), ("chroma_constancy", "harmony")):
        pairs = [
            [getattr(song, kind) for song in songs if getattr(song, kind) is not None] for songs in (generated, real)
        ]
        row[f"{name}_generated"], row[f"{name}_real"] = (coherence.constancy(each) for each in pairs)
        names = [song.recording or song.name for song in real if getattr(song, kind) is not None]
        row[f"{name}_shuffled"] = coherence.shuffled(pairs[1], names)
    spread = np.concatenate([song.features for song in real]).std(axis=0) if real else None
    for side, songs in zip(SIDES, (generated, real), strict=True):
        far = [coherence.far_similarity(song.features, spread) for song in songs] if real else []
        row[f"self_similarity_{side}"] = _mean(far)
    if row["tempo_constancy_generated"] is None:
        notes.append(f"coherence takes songs of {coherence.SHORTEST_S:.0f} s or more in which notes begin")
    return row


def _diversity(generated, real, more, ends, notes):
    row = dict.fromkeys(("diversity", "nearest_training", "copies"))
    standard = _standard(real)
    if standard is None or len(real) < 2 or not generated:
        notes.append("diversity and copies take 2 real songs and a generated one")
        return row
    ours, theirs = ([standard(song.features) for song in songs] for songs in (generated, real))
    rest = [standard(features) for _, features in more]
    usual, apart = diversity.nearest_apart(theirs, rest), diversity.pairwise(theirs)
    if min(np.median(usual), apart) < 1e-6:
        notes.append("the real songs repeat one another, so that diversity and copies cannot be told")
        return row
    found, _ = diversity.nearest(ours, [*theirs, *rest, *(standard(features) for _, features in ends)])
    row["nearest_training"] = np.median(found) / np.median(usual)
    row["copies"] = diversity.copies(found, usual).mean()
    if len(ours) < 2:
        notes.append("diversity takes 2 generated songs")
    else:
        row["diversity"] = diversity.pairwise(ours) / apart
    return row


def _of_held_out(generated, real, held_out, more, ends, notes):
    """What music that was not trained on comes to in place of the training set, and of the songs (`_floor`)."""
    heard = [song for song in held_out if song.features is not None]
    said = []
    found = {f"{name}_held_out": value for name, value in _frechet(generated, heard, said).items()}
    found["frechet_distance_floor"] = _frechet(heard, real, [])["frechet_distance"]
    found["nearest_held_out"] = _diversity(heard, real, more, ends, [])["nearest_training"] if heard else None
    notes += [f"held out: {note}" for note in said]
    return {"songs_held_out": len(held_out), **found}


def _standard(real):
    """A function that standardises features by the mean and the spread of the real songs', or None without any."""
    if not real:
        return None
    windows = np.concatenate([song.features for song in real])
    mean, spread = windows.mean(axis=0), windows.std(axis=0)
    return lambda features: (features - mean) / np.maximum(spread, 0.05)  # half a dB: what never moves says nothing


def of_songs(generated, real, more=()):
    """A row for each generated song: what is measured of it alone, and the training song that comes nearest to it.

    The arguments are those of `scores`, `more` with the ends.
    """
    heard = [song for song in real if song.features is not None]
    standard = _standard(heard)
    training = [*((song.name, song.features) for song in heard), *more]
    theirs = [standard(features) for _, features in training] if standard else []
    rows = []
    for song in generated:
        row = {"song": song.name, "seconds": song.seconds, "silent": int(song.silent), **song.loudness}
        row |= {"tonality": song.tonality, "hum_db": (song.hum_db or {}).get("all"), **song.timbre}
        row |= {"nearest_distance": None, "nearest_recording": None}
        if song.features is not None and theirs:
            (row["nearest_distance"],), (index,) = diversity.nearest([standard(song.features)], theirs)
            row["nearest_recording"] = training[index][0]
        rows.append({name: _plain(value) for name, value in row.items()})
    return rows


def write(folder, rows):
    """Writes rows, dictionaries, as scores.csv and scores.json in `folder`; None is an empty cell, or null."""
    write_table(os.path.join(folder, "scores.csv"), rows)
    with open(os.path.join(folder, "scores.json"), "w") as file:
        json.dump(rows, file, indent=2)
        file.write("\n")


def write_table(path, rows):
    """Writes rows, dictionaries, as a CSV; None is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows([{name: "" if value is None else value for name, value in row.items()} for row in rows])


def _known(values):
    return [value for value in values if value is not None]


def _mean(values, weights=None):
    if weights is not None:
        pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
        return sum(v * w for v, w in pairs) / sum(w for _, w in pairs) if pairs else None
    values = _known(values)
    return sum(values) / len(values) if values else None


def _median(values):
    values = _known(values)
    return float(np.median(values)) if values else None


def _spread(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _mean_power_db(values_db):
    return 10 * math.log10(sum(10 ** (value / 10) for value in values_db) / len(values_db)) if values_db else None


def _difference(first, second):
    return None if first is None or second is None else first - second


def _plain(value):
    """A number as JSON has it; what is not finite is a defect here, and must not pass for a score."""
    if value is None or isinstance(value, int | str):
        return value
    if not math.isfinite(value):
        raise ValueError(f"a score is {value}")
    return float(value)
