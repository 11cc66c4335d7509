"""The paper's figures 1, 2, 5 and 6, and self-similarity, as matplotlib Figures, from arrays: for commands, notebooks
and pages alike.
"""

import math

import numpy as np

from mp3net.audio import bark
from mp3net.evaluation import views
from mp3net.evaluation.drawing import TEXT, TITLE, label, new_figure, number

_RANGE_DB = 90.0  # below the loudest: what the colours tell apart
_QUIETEST_TOP_DB = -60.0  # the loudest is taken to be this at least, so that silence stays dark
_FLOOR_POWER = 1e-20  # below all that is shown
_COLUMNS = 2000  # more blocks than a picture has pixels are drawn together
# Told apart by lightness too, and by anyone who is colour-blind (Okabe and Ito, 2008).
_BLUE, _GREEN, _YELLOW, _VERMILION = "#0072b2", "#9fd8b5", "#ffec99", "#d55e00"
_LOWEST_HZ, _LOWEST_DB = 20.0, -20.0  # where figure 2 begins: hearing does


def spectrogram(amplitudes, rate_hz, start_s=0.0, title=None):
    """The lower half of figure 1: the MDCT spectrogram A_k^2(m) in dB, an amplitude of 1 being 0 dB.

    Args:
        amplitudes: `[block, band]`.
        rate_hz: of the waveform that they are of.
        start_s: where its first sample lies in its recording: where the axis begins.
        title: of the figure, such as the recording's name.

    Returns:
        A matplotlib `Figure`.
    """
    figure = new_figure(12, 4.8, title)
    axes = figure.subplots()
    level_db = _level_db(_pooled_power(amplitudes))
    image = _image(axes, level_db, len(amplitudes), _span(amplitudes, rate_hz, start_s), _limits_db(level_db), "magma")
    _level_bar(figure, image, axes)
    label(axes, "time (s)", "frequency (Hz)")
    return figure


def amplitudes(amplitudes, rate_hz, start_s=0.0, title=None):
    """Figure 1: the amplitudes A_k(m), negative ones dark grey and positive ones light, above their spectrogram.

    How far from the grey of nothing is a matter of their level in dB. Where blocks are more than pixels, the greatest
    of neighbouring amplitudes is drawn for all. Arguments and result as of `spectrogram`.
    """
    figure = new_figure(12, 8.4, title)
    upper, lower = figure.subplots(2, sharex=True, sharey=True)
    span = _span(amplitudes, rate_hz, start_s)
    level_db = _level_db(_pooled_power(amplitudes))
    limits_db = _limits_db(level_db)

    greatest = _greatest(amplitudes)
    above_db = np.sign(greatest) * np.maximum(_level_db(np.square(greatest, dtype=np.float64)) - limits_db[0], 0.0)
    # A mean of neighbouring pixels would cancel signs to grey: hence the nearest.
    image = _image(upper, above_db, len(amplitudes), span, (-_RANGE_DB, _RANGE_DB), "gray", interpolation="nearest")
    bar = figure.colorbar(image, ax=upper, pad=0.01, ticks=np.linspace(-_RANGE_DB, _RANGE_DB, 7))
    ends_db = [round(limits_db[1] - i * _RANGE_DB / 3) for i in range(3)]
    bar.ax.set_yticklabels([number(db) for db in (*ends_db, limits_db[0], *reversed(ends_db))])
    bar.set_label("A < 0        level (dB)        A > 0", size=TEXT)
    bar.ax.tick_params(labelsize=TEXT - 1)
    upper.set_title("MDCT amplitudes $A_k(m)$", size=TEXT, loc="left")
    label(upper, "", "frequency (Hz)")

    _level_bar(figure, _image(lower, level_db, len(amplitudes), span, limits_db, "magma"), lower)
    lower.set_title("MDCT spectrogram $A_k^2(m)$", size=TEXT, loc="left")
    label(lower, "time (s)", "frequency (Hz)")
    return figure


def masking(masking, marks_hz=(), title=None):
    """Figure 2: a spectrum, shaded green below the quiet threshold and yellow below the masking one: inaudible.

    Args:
        masking: a `views.Masking`.
        marks_hz: tones to name, with whether they are masked.
        title: of the figure.

    Returns:
        A matplotlib `Figure`.
    """
    figure = new_figure(11, 6.2, title)
    axes = figure.subplots()
    top_hz = masking.rate_hz / 2
    top_db = 10 * math.ceil(max(float(masking.level_db.max()) + 25, 70) / 10)
    frequency_hz = np.geomspace(min(_LOWEST_HZ, top_hz / 10), top_hz, 500)
    quiet_db = bark.quiet_threshold_db(frequency_hz)
    edges_hz = [frequency_hz[0] / 10, *masking.bark_edges_hz[1:]]  # 0 Hz has no place on the axis

    name = "inaudible: below the masking threshold (equation 10)"
    axes.stairs(masking.masking_db, edges_hz, baseline=_LOWEST_DB, fill=True, color=_YELLOW, label=name)
    name = "inaudible: below the quiet threshold (equation 9)"
    axes.fill_between(frequency_hz, quiet_db, _LOWEST_DB, color=_GREEN, linewidth=0, label=name)
    axes.stairs(masking.masking_db, edges_hz, baseline=None, color="#8a6d00", linewidth=1.4)
    axes.plot(frequency_hz, quiet_db, color="#0f5132", linewidth=1.4, linestyle="--")
    name = "all that lies within a Bark band"
    axes.stairs(masking.bark_level_db, edges_hz, baseline=None, color=_BLUE, linewidth=1.2, linestyle=":", label=name)
    axes.plot(masking.frequency_hz, masking.level_db, color=_BLUE, linewidth=1.8, label="spectrum: each MDCT band")
    for hz in marks_hz:
        _mark(axes, masking, hz)

    axes.set_xscale("log")
    axes.set_xlim(frequency_hz[0], top_hz)
    axes.set_ylim(_LOWEST_DB, top_db)
    axes.xaxis.set_major_formatter(lambda hz, _: number(hz))
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axes.xaxis.set_minor_formatter("")
    label(axes, "frequency (Hz)", "level (dB SPL)")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper right", fontsize=TEXT - 1, framealpha=1)
    return figure


def tonality(tonality, title=None):
    """Figure 5: tonality (equation 13) over D iterations, of generated songs on the left and of real ones on the right.

    Args:
        tonality: a `views.Tonality`.
        title: of the figure.

    Returns:
        A matplotlib `Figure`. Both sides have one scale, so that the gap between them is seen.
    """
    figure = new_figure(11, 4.8, title)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    sides = (("generated", tonality.generated, _BLUE), ("real", tonality.real, _VERMILION))
    for axes, (name, (iterations, values), colour) in zip(panels, sides, strict=True):
        few = len(iterations) < 40
        axes.plot(iterations, values, color=colour, linewidth=1.6, marker="o" if few else "", markersize=4)
        axes.set_title(name, size=TITLE)
        if not len(values):
            axes.text(0.5, 0.5, "none in the log", transform=axes.transAxes, ha="center", size=TEXT)
        axes.grid(color="0.9")
        axes.xaxis.set_major_formatter(lambda step, _: number(step))
        axes.xaxis.get_major_locator().set_params(nbins=5)
        label(axes, "discriminator iteration", "tonality" if name == "generated" else "")
        axes.tick_params(labelleft=True)
    steps, values = (np.concatenate(parts) for parts in zip(tonality.generated, tonality.real, strict=True))
    low, high = 0.05 * math.floor(values.min() / 0.05 - 0.2), 0.05 * math.ceil(values.max() / 0.05 + 0.2)
    low = min(low, high - 0.2)  # what moves by thousandths is to look as if it did
    panels[0].set_ylim(max(0.0, low), min(1.0, high))
    if steps.max() > 0:
        panels[0].set_xlim(0, 1.02 * steps.max())
    return figure


def curves(curves, title=None):
    """Numbers over D iterations, a panel each; what is 0 is marked, and a single point is a dot.

    Args:
        curves: {name: (steps, values)}, as `log.curves` gives them.
        title: of the figure.

    Returns:
        A matplotlib `Figure`.
    """
    rows = math.ceil(len(curves) / 3)
    figure = new_figure(13, 0.6 + 3.0 * rows, title)
    panels = list(figure.subplots(rows, min(3, len(curves)), squeeze=False, sharex=True).flat)
    for axes, (name, (steps, values)) in zip(panels, curves.items(), strict=False):
        axes.axhline(0, color="0.75", linewidth=1)
        axes.plot(steps, values, color=_BLUE, linewidth=1.6, marker="o" if len(steps) < 40 else "", markersize=4)
        if not len(values):
            axes.text(0.5, 0.5, "none in the log", transform=axes.transAxes, ha="center", size=TEXT)
        axes.set_title(name, size=TITLE)
        axes.grid(color="0.9")
        axes.xaxis.set_major_formatter(lambda step, _: number(step))
        axes.xaxis.get_major_locator().set_params(nbins=5)
        label(axes, "discriminator iteration", "")
        axes.tick_params(labelbottom=True)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return figure


def reduced(amplitudes, rate_hz, octaves, start_s=0.0, title=None):
    """Figure 6: the spectrogram on the left, and on the right what `views.fold_octaves` makes of it.

    Both have one scale of levels. Arguments and result as of `spectrogram`; `octaves` is how many are folded.
    """
    figure = new_figure(14, 6.2, title)
    left, right = figure.subplots(1, 2)
    folded = views.fold_octaves(amplitudes, octaves)
    levels_db = [_level_db(_pooled_power(each)) for each in (amplitudes, folded)]
    limits_db = _limits_db(*levels_db)
    names = "spectrogram", f"reduced: {octaves} octave{'s' * (octaves != 1)} folded down"
    *times_s, top_hz = _span(amplitudes, rate_hz, start_s)
    tops_hz = top_hz, top_hz / 2**octaves
    for axes, level_db, top_hz, name in zip((left, right), levels_db, tops_hz, names, strict=True):
        image = _image(axes, level_db, len(amplitudes), (*times_s, top_hz), limits_db, "magma")
        axes.set_title(f"{name} ({level_db.shape[1]} bands)", size=TITLE)
        label(axes, "time (s)", "frequency (Hz)")
    _level_bar(figure, image, [left, right])
    return figure


def self_similarity(songs, title=None):
    """How alike the moments of songs are: a square for each, time across and up; on the diagonal a moment meets itself.

    What comes back shows as lines beside the diagonal, a song in parts as squares along it, noise as nothing else.

    Args:
        songs: (name, similarity `[window, window]` in -1..1, seconds from a window to the next), as
            `views.self_similarity` gives them; one to four.
        title: of the figure.

    Returns:
        A matplotlib `Figure`, of one scale for all.
    """
    figure = new_figure(1.5 + 4.6 * len(songs), 4.9, title)
    panels = figure.subplots(1, len(songs), squeeze=False)[0]
    for axes, (name, similarity, window_s) in zip(panels, songs, strict=True):
        end_s = len(similarity) * window_s
        image = axes.imshow(similarity, origin="lower", extent=(0, end_s, 0, end_s), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(name, size=TITLE, parse_math=False)
        label(axes, "time (s)", "time (s)" if axes is panels[0] else "")
    bar = figure.colorbar(image, ax=list(panels), pad=0.01)
    bar.set_label("similarity", size=TEXT)
    bar.ax.tick_params(labelsize=TEXT - 1)
    return figure


def _span(amplitudes, rate_hz, start_s):
    """Of amplitudes `[block, band]`: the second where they begin, where they end, seconds of a block, Hz of the top.

    Block m is of samples mN to (m + 2)N; it is drawn about the middle of them, N wide.
    """
    blocks, bands = np.shape(amplitudes)
    return start_s, start_s + (blocks + 1) * bands / rate_hz, bands / rate_hz, rate_hz / 2


def _groups(blocks):
    """How many neighbouring blocks share a column, and where the groups of them begin."""
    each = math.ceil(blocks / _COLUMNS)
    return each, np.arange(0, blocks, each)


def _pooled_power(amplitudes):
    """The mean power of the blocks that share a column: `[column, band]`."""
    power = np.square(amplitudes, dtype=np.float64)
    each, starts = _groups(len(power))
    return np.add.reduceat(power, starts) / np.minimum(each, len(power) - starts)[:, np.newaxis]


def _greatest(amplitudes):
    """Of the blocks that share a column, the amplitude that is furthest from 0, with its sign: `[column, band]`."""
    _, starts = _groups(len(amplitudes))
    high, low = np.maximum.reduceat(amplitudes, starts), np.minimum.reduceat(amplitudes, starts)
    return np.where(high >= -low, high, low)


def _level_db(power):
    return 10 * np.log10(np.maximum(power, _FLOOR_POWER))


def _limits_db(*levels_db):
    """The levels, in dB, of the darkest and the brightest colour."""
    loudest_db = max(float(level_db.max()) for level_db in levels_db)
    top_db = 5 * math.ceil(max(loudest_db, _QUIETEST_TOP_DB) / 5)
    return top_db - _RANGE_DB, top_db


def _image(axes, values, blocks, span, limits, colours, interpolation="antialiased"):
    """Draws `[column, band]` of `blocks`. The last column may be of fewer than the others: it ends where they do."""
    first_s, last_s, block_s, top_hz = span
    each, starts = _groups(blocks)
    left_s = first_s + block_s / 2
    extent = (left_s, left_s + each * len(starts) * block_s, 0.0, top_hz)
    image = axes.imshow(
        values.T, origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=limits[0], vmax=limits[1]
    )
    image.set_interpolation(interpolation)
    axes.set_xlim(first_s, last_s)
    axes.set_facecolor(image.cmap(0.5 if colours == "gray" else 0.0))  # nothing, half a block at either end
    return image


def _level_bar(figure, image, axes):
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("level (dB)", size=TEXT)
    bar.ax.tick_params(labelsize=TEXT - 1)


def _mark(axes, masking, hz):
    """Names a tone above its peak in the spectrum."""
    nearest = np.abs(masking.frequency_hz - hz).argmin()
    peak_db = float(masking.level_db[max(0, nearest - 2) : nearest + 3].max())
    masked = peak_db < masking.masking_db[np.searchsorted(masking.bark_edges_hz[1:-1], hz)]
    text = f"{number(hz)} Hz" + "\nmasked" * bool(masked)
    box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
    place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    axes.annotate(text, (hz, peak_db), size=TEXT - 1, bbox=box, zorder=5, **place)
