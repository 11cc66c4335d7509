"""What all figures share: how one is made, labelled and saved.

matplotlib is imported when something is drawn, and no display is ever opened: figures do not pass through pyplot.
"""

import contextlib
import importlib.util
import io
import os
import warnings

from mp3net.audio.writing import partial_name
from mp3net.errors import UserError

FORMATS = ("png", "svg", "pdf")
TEXT, TITLE = 12, 13  # points
DPI = 150


def require():
    """Raises `UserError` where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("Figures need matplotlib, which is not installed: pip install 'mp3net[plots]'.")


def save(figure, path, format=None, dpi=DPI):
    """Writes a `Figure` to `path` as png of `dpi`, svg or pdf (None: by its suffix); the same figure to the same bytes.

    The file appears under its name only when complete. Raises `OSError` where the disk refuses.
    """
    import matplotlib

    format = format or os.path.splitext(path)[1].lstrip(".").lower()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format)
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mp3net"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a title in a script that the font lacks has boxes in it
        figure.savefig(drawn, format=format, dpi=dpi, metadata=undated)
    partial = partial_name(path)
    try:
        with open(partial, "wb") as file:
            file.write(drawn.getbuffer())
        os.replace(partial, path)
    except OSError as refused:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise OSError(refused.errno, refused.strerror, path) from refused


def new_figure(width, height, title):
    """An empty `Figure`, inches wide and high. Raises `UserError` where matplotlib is missing."""
    require()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    if title:
        shown = str(title).encode(errors="replace").decode()  # a file's name need not be text
        figure.suptitle(shown, size=TITLE + 1, parse_math=False)
    return figure


def label(axes, across, up):
    """Names both axes; one in Hz gets plain numbers."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xlabel(across, size=TEXT)
    axes.set_ylabel(up, size=TEXT)
    axes.tick_params(labelsize=TEXT - 1)
    if "Hz" in up:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda hz, _: number(hz)))


def number(value):
    """A number as it is read: 16,000, 0.25, and a minus that is one."""
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")
