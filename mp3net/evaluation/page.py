"""A page to listen on: groups of songs as one HTML file that needs no server, no network and no other file.

It is filled in from page.html (one part for the page, one for a group, one for a song), page.css and page.js. Whatever
comes from outside is escaped; sounds and pictures are inlined, since a page opened from a file may not fetch any.
"""

import base64
import html
import importlib.resources
import os
import string
from dataclasses import dataclass

from mp3net.audio.writing import partial_name
from mp3net.evaluation import pictures

COLUMN, STRIP = "column", "strip"
_FILE = "index.html"


@dataclass(frozen=True)
class Song:
    """One song with its player. `scores` are `(name, text)`, `warnings` sentences."""

    title: str
    note: str
    sound: bytes
    media_type: str
    picture: pictures.Picture
    scores: tuple = ()
    warnings: tuple = ()


@dataclass(frozen=True)
class Group:
    """Songs under one heading. Groups of `layout` COLUMN stand beside each other, a STRIP has the page's width."""

    title: str
    text: str
    songs: tuple
    summary: tuple = ()  # (name, text)
    layout: str = COLUMN


@dataclass(frozen=True)
class Page:
    """What a page shows: `facts` are `(name, text)`, `notes` are sentences on what is missing from it."""

    title: str
    text: str
    groups: tuple
    facts: tuple = ()
    notes: tuple = ()


def write(page, folder):
    """Writes index.html to a folder, which is made; returns its path. It appears under its name only when complete."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, _FILE)
    partial = partial_name(path)
    try:
        with open(partial, "w", encoding="utf-8", newline="\n") as file:
            file.write(text_of(page))
        os.replace(partial, path)
    except OSError as refused:
        raise OSError(refused.errno, refused.strerror, path) from refused
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
    return path


def text_of(page):
    """The whole page as HTML."""
    parts = _parts()
    columns = [group for group in page.groups if group.layout == COLUMN]
    strips = [group for group in page.groups if group.layout == STRIP]
    low_db, high_db = pictures.RANGE_DB
    return parts["page"].substitute(
        title=_escape(page.title),
        text=_escape(page.text),
        style=_read("page.css"),
        script=_read("page.js"),
        facts=_pairs(page.facts),
        notes="".join(f"<p>{_escape(note)}</p>" for note in page.notes),
        low_db=f"−{-low_db:.0f}",
        high_db=f"−{-high_db:.0f}",
        colours=", ".join("#%02x%02x%02x" % tuple(colour) for colour in pictures.palette()[::7]),  # noqa: UP031
        count=len(columns),
        rows=1 + max((len(group.songs) for group in columns), default=0),
        columns="".join(_group(parts, group, number) for number, group in enumerate(columns)),
        strips="".join(_group(parts, group, len(columns) + number) for number, group in enumerate(strips)),
    )


def _group(parts, group, number):
    songs = (_song(parts, song, f"song-{number}-{index}") for index, song in enumerate(group.songs))
    return parts["group"].substitute(
        title=_escape(group.title),
        text=_escape(group.text),
        summary=_pairs(group.summary),
        layout=_escape(group.layout),
        name=f"group-{number}",
        songs="".join(songs),
    )


def _song(parts, song, name):
    picture = song.picture
    short = picture.seconds < 10
    marks_hz = "".join(
        f'<i style="bottom:{100 * share:.2f}%">{f"{hz / 1000:g}k" if hz >= 1000 else hz}</i>'
        for hz, share in picture.ticks_hz
    )
    marks_s = "".join(f'<i style="left:{100 * share:.2f}%">{seconds:g}</i>' for seconds, share in picture.ticks_s)
    return parts["song"].substitute(
        name=name,
        title=_escape(song.title),
        note=_escape(song.note),
        seconds=f"{picture.seconds:.3f}",
        start="0.0" if short else "0:00",
        duration=f"{picture.seconds:.1f} s" if short else _clock(picture.seconds),
        top_hz=f"{picture.top_hz:,.0f}",
        marks_hz=marks_hz,
        marks_s=marks_s,
        picture=_data("image/png", picture.png),
        sound=_data(song.media_type, song.sound),
        scores=_pairs(song.scores),
        warnings="".join(f"<p>{_escape(warning)}</p>" for warning in song.warnings),
    )


def _clock(seconds):
    """Minutes and seconds: 1:35."""
    whole = int(seconds + 0.5)
    return f"{whole // 60}:{whole % 60:02d}"


def _parts():
    """The templates of page.html by name."""
    _, *named = _read("page.html").split("<!-- part: ")
    return {
        name: string.Template(text.strip() + "\n")
        for name, text in (part.split(" -->", 1) for part in named)
    }  # fmt: skip


def _read(name):
    return importlib.resources.files("mp3net.evaluation").joinpath(name).read_text(encoding="utf-8")


def _pairs(pairs):
    return "".join(f"<div><dt>{_escape(name)}</dt><dd>{_escape(text)}</dd></div>" for name, text in pairs)


def _escape(text):
    return html.escape(str(text))


def _data(media_type, content):
    return f"data:{_escape(media_type)};base64,{base64.b64encode(content).decode('ascii')}"
