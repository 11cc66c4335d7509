"""scripts/download_maestro.py against a server on this machine, with a tiny archive in MAESTRO's layout."""

import hashlib
import http.server
import importlib.util
import os
import pathlib
import threading
import zipfile

import pytest

from mp3net import cli
from mp3net.data.corpus import _read_csv
from mp3net.errors import UserError

SCRIPT = pathlib.Path(__file__).parent.parent / "scripts" / "download_maestro.py"
NAME = "maestro-v2.0.0.zip"
FILES = {
    "maestro-v2.0.0/maestro-v2.0.0.csv": b"audio_filename,year\n2004/a.wav,2004\n2006/b.wav,2006\n",
    "maestro-v2.0.0/LICENSE": b"CC BY-NC-SA 4.0",
    "maestro-v2.0.0/2004/a.wav": bytes(range(256)) * 9000,
    "maestro-v2.0.0/2006/b.wav": b"b" * 1000,
}


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("download_maestro", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    return module


class Server(http.server.ThreadingHTTPServer):
    """Serves one archive at MAESTRO's address; `cut_at` ends every answer after so many bytes."""

    daemon_threads = True

    def __init__(self, data):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.cut_at, self.ranges, self.asked = data, None, True, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._head(200, len(self.server.data))

    def do_GET(self):
        start = 0
        if self.headers["Range"] and self.server.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.server.asked.append(start)
        if self._head(206 if start else 200, len(self.server.data) - start):
            self.wfile.write(self.server.data[start:][: self.server.cut_at])

    def _head(self, status, length):
        found = self.path == f"/v2.0.0/{NAME}"
        self.send_response(status if found else 404)
        self.send_header("Content-Length", str(length if found else 0))
        self.end_headers()
        return found

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:  # stored, so that damage shows in the CRC and nowhere else
        for name, data in FILES.items():
            archive.writestr(name, data)
    made = Server(path.read_bytes())
    threading.Thread(target=made.serve_forever, args=[0.01], daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def call(script, server, out, *more, sha256=None):
    sha256 = sha256 or hashlib.sha256(server.data).hexdigest()
    arguments = ["--version", "v2.0.0", "--out", str(out), "--base_url", server.url, "--sha256", sha256, *more]
    script.main(arguments)


def unpacked(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".zip"}


def test_whole(script, server, tmp_path, capsys):
    call(script, server, tmp_path / "out")
    assert unpacked(tmp_path / "out") == FILES
    said = capsys.readouterr().out
    assert "CC BY-NC-SA 4.0" in said.splitlines()[0]
    assert f"--source {tmp_path}/out/maestro-v2.0.0 " in said.splitlines()[-1]
    columns, rows = _read_csv(tmp_path / "out" / "maestro-v2.0.0" / "maestro-v2.0.0.csv")
    assert columns == ("audio_filename", "year") and len(rows) == 2
    call(script, server, tmp_path / "out")
    assert server.asked == [0], "what is there is not downloaded again"


def test_resumes_what_an_earlier_run_left(script, server, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{NAME}.part").write_bytes(server.data[:123_456])
    call(script, server, out)
    assert server.asked == [123_456] and unpacked(out) == FILES


def test_reconnects_when_the_connection_breaks(script, server, tmp_path):
    server.cut_at = 300_000
    call(script, server, tmp_path / "out")
    assert server.asked == list(range(0, len(server.data), 300_000)) and unpacked(tmp_path / "out") == FILES


def test_gives_up_and_says_how_to_go_on(script, server, tmp_path):
    server.cut_at = 0
    with pytest.raises(UserError, match="broken off at 0 bytes .* The same command goes on"):
        call(script, server, tmp_path / "out")
    assert len(server.asked) == 5
    server.cut_at = None
    call(script, server, tmp_path / "out")
    assert unpacked(tmp_path / "out") == FILES


def test_server_without_ranges(script, server, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{NAME}.part").write_bytes(b"x" * 1000)
    server.ranges = False
    call(script, server, out)
    assert unpacked(out) == FILES


def test_wrong_sum(script, server, tmp_path):
    with pytest.raises(UserError, match=f"SHA256 sum is {hashlib.sha256(server.data).hexdigest()}, not {'0' * 64}"):
        call(script, server, tmp_path / "out", sha256="0" * 64)
    assert unpacked(tmp_path / "out") == {f"{NAME}.part": server.data}, "nothing is unpacked"


def test_built_in_sum_is_used(script, server, tmp_path):
    with pytest.raises(UserError, match="not 572c6054e8d2"):
        script.main(["--version", "v2.0.0", "--out", str(tmp_path / "out"), "--base_url", server.url])


def test_damage_without_a_sum_is_found_by_the_crc(script, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "SHA256", {})
    at = server.data.index(FILES["maestro-v2.0.0/2004/a.wav"]) + 5000
    good = server.data
    server.data = good[:at] + b"\xff" + good[at + 1 :]
    arguments = ["--version", "v2.0.0", "--out", str(tmp_path / "out"), "--base_url", server.url]
    with pytest.raises(UserError, match="is damaged .*CRC"):
        script.main(arguments)
    assert "maestro-v2.0.0/2004/a.wav" not in unpacked(tmp_path / "out")
    assert "no published SHA256 sum" in capsys.readouterr().out
    os.unlink(tmp_path / "out" / NAME)
    server.data = good
    script.main(arguments)
    assert unpacked(tmp_path / "out") == FILES


def test_years(script, server, tmp_path, capsys):
    call(script, server, tmp_path / "out", "--years", "2006")
    assert set(FILES) - set(unpacked(tmp_path / "out")) == {"maestro-v2.0.0/2004/a.wav"}
    assert capsys.readouterr().out.splitlines()[-1].endswith("--years 2006")
    with pytest.raises(UserError, match="--years 1999: not in .*, which has 2004 2006"):
        call(script, server, tmp_path / "out", "--years", "1999", "2004")


def test_dry_run_writes_nothing(script, server, tmp_path, capsys):
    call(script, server, tmp_path / "out", "--dry_run")
    said = capsys.readouterr().out
    assert f"would download {server.url}/v2.0.0/{NAME}" in said and "would unpack all" in said
    assert server.asked == [] and not (tmp_path / "out").exists()


def test_too_small_a_disk(script, server, tmp_path, monkeypatch):
    usage = script.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: usage._replace(free=len(server.data)))
    with pytest.raises(UserError, match="GB are needed"):
        call(script, server, tmp_path / "out")
    assert server.asked == []
    path = tmp_path / NAME
    path.write_bytes(server.data)
    needed = sum(map(len, FILES.values()))
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(UserError, match="GB are needed"):
        script.unpack(path, tmp_path / "other", None)
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    script.unpack(path, tmp_path / "other", None)
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: usage._replace(free=0))
    script.unpack(path, tmp_path / "other", None)  # all is there already


def test_archive_that_would_land_elsewhere(script, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("maestro/../../outside.txt", b"x")
    with pytest.raises(UserError, match="would land elsewhere"):
        script.unpack(tmp_path / "bad.zip", tmp_path / "out", None)


@pytest.mark.parametrize(
    "more, words",
    [(["--version", "v1.0.0"], "answers 404"), (["--base_url", "http://127.0.0.1:9"], "cannot be reached")],
)
def test_servers_that_refuse(script, server, tmp_path, more, words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: call(script, server, tmp_path / "out", *more))
    err = capsys.readouterr().err
    assert left.value.code == 1 and words in err and len(err.splitlines()) == 1


def test_sums_are_sums(script):
    assert all(len(value) == 64 and int(value, 16) for value in script.SHA256.values())
