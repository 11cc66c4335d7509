"""The notebooks: they hold no output, call the package in every cell, and run from nothing at a small size."""

import ast
import json
import os
import pathlib
import re
import sys

import helpers
import pytest

if os.environ.get("MP3NET_REQUIRE_ALL") != "1":
    for package in ("nbclient", "nbformat", "ipykernel", "mido", "matplotlib"):
        pytest.importorskip(package, reason=f"package missing: {package}: pip install 'mp3net[test,corpus,plots]'")

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

PATHS = sorted((pathlib.Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
LOOK, TRAIN, LISTEN = "1_data_and_mdct", "2_train", "3_listen_and_compare"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
OTHER_MODULES = {"IPython.display", "glob", "google.colab", "html", "importlib.util", "json", "matplotlib", "os", "sys"}
SPOTTED = re.compile(r"/(home|root|tmp|Users|work|usr|opt|mnt)/|\b[A-Z]:\\|\bhttps?:")  # machines' paths and hosts

every = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(name):
    return nbformat.read(next(path for path in PATHS if path.stem == name), as_version=4)


def code_cells(book, *tags):
    """Code cells that bear one of some tags; without any asked, those that bear none."""
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    return [cell for cell in cells if set(cell.metadata.get("tags", ())) & set(tags) or not (tags or cell.metadata)]


def parsed(cell):
    """The syntax of a cell, its magics being calls of `get_ipython`."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def source_of(book, id):
    return next(cell for cell in book.cells if cell.id == id).source


def text_of(cells):
    """What cells have printed."""
    return "".join(output.text for cell in cells for output in cell.outputs if output.output_type == "stream")


def shown(cells, kind, word=""):
    """How many displays of a kind, such as image/png, cells have made."""
    outputs = [output for cell in cells for output in cell.outputs if output.output_type not in ("stream", "error")]
    return sum(word in output.data.get(kind, "") and kind in output.data for output in outputs)


# ---------------------------------------------------------------------------------------------- as they are committed


def test_there_are_three():
    assert [path.stem for path in PATHS] == [LOOK, TRAIN, LISTEN]


@every
def test_file_is_valid_and_holds_no_output(path):
    text = path.read_text(encoding="utf-8")
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert book.metadata == METADATA
    for cell in book.cells:
        assert set(cell.metadata) <= {"tags"}, cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.id
        assert not SPOTTED.search(cell.source), cell.id
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", cell.id) for cell in book.cells)  # by hand: a rebuild keeps them


@every
def test_every_cell_calls_the_package_and_little_else(path):
    book = nbformat.read(path, as_version=4)
    known, arithmetic, cells = set(), 0, code_cells(book)
    assert len(cells) >= 8
    for cell in cells:
        nodes = list(ast.walk(parsed(cell)))
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
                ours = all(name.split(".")[0] in ("mp3net", "render_corpus") for name in names)
                assert ours or set(names) <= OTHER_MODULES, (cell.id, names)
                known |= {name.asname or name.name for name in node.names} if ours else set()
        called = {inner.id for node in nodes if isinstance(node, ast.Call) for inner in named(node.func)}
        assert called & known, cell.id
        forbidden = ast.FunctionDef | ast.Lambda | ast.ClassDef | ast.While | ast.Try
        assert not any(isinstance(node, forbidden) for node in nodes), cell.id
        arithmetic += sum(isinstance(node, ast.BinOp) for node in nodes)
        assert len(cell.source.splitlines()) <= 15, cell.id
    assert arithmetic <= 2  # a difference of two waveforms, and a sixth


def named(function):
    """The names that what is called begins with."""
    return [node for node in ast.walk(function) if isinstance(node, ast.Name)]


def test_they_begin_alike():
    starts = [[cell.source for cell in read(path.stem).cells[2:5]] for path in PATHS]
    assert starts[0] == starts[1] == starts[2]
    for path in PATHS:
        book = read(path.stem)
        assert book.cells[1].metadata.tags == ["parameters"] and len(code_cells(book, "parameters", "setup")) == 2
        assert {"SOURCE", "WORK", "DRIVE", "RECORDINGS", "MINUTES"} <= assigned(book.cells[1])
    assert all(name in source_of(read(TRAIN), "choose") for name in ("tpu_chips", "nvidia_gpus"))
    assert "Nothing here was ever run on a GPU or a TPU" in " ".join(source_of(read(TRAIN), "title").split())


def assigned(cell):
    """The names that a cell sets."""
    targets = [node for node in ast.walk(parsed(cell)) if isinstance(node, ast.Name)]
    return {node.id for node in targets if isinstance(node.ctx, ast.Store)}


# -------------------------------------------------------------------------------------------------------- as they run


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder with recordings, and a kernel of this interpreter's that keeps to itself."""
    folder = tmp_path_factory.mktemp("notebooks")
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": arguments, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    helpers.write_corpus(folder / "recordings", count=2, seconds=5.0, rate_hz=8000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name.lower()))
        yield folder


def run(book, folder, **parameters):
    """Executes a notebook in `folder`, with `parameters` in place of its own; returns its code cells by id."""
    unknown = set(parameters) - assigned(book.cells[1])
    assert not unknown, f"no parameters: {unknown}"
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    book.cells.insert(2, nbformat.v4.new_code_cell("\n".join(lines), id="injected"))
    folder.mkdir(exist_ok=True)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(book, timeout=600, kernel_name="python3", resources=place, allow_errors=False).execute()
    return {cell.id: cell for cell in book.cells if cell.cell_type == "code"}


def broken(name, id, right, wrong):
    """A notebook up to one of its cells, in which something is now wrong."""
    book = read(name)
    cell = next(cell for cell in book.cells if cell.id == id)
    assert cell.source.count(right) == 1
    cell.source = cell.source.replace(right, wrong)
    book.cells = book.cells[: book.cells.index(cell) + 1]
    return book


@pytest.fixture(scope="module")
def looked(ground):
    """The first notebook, which renders its corpus."""
    return run(read(LOOK), ground / LOOK, MINUTES=0.5, SECONDS=4)


@pytest.fixture(scope="module")
def trained(ground):
    """The second notebook, on recordings of one's own, with what it takes on a CPU: the demo."""
    settings = ["train.preview_every_minutes = 0", "train.preview_songs = 2"]
    return run(read(TRAIN), ground / TRAIN, RECORDINGS="../recordings", STEPS=8, SETTINGS=settings)


@pytest.fixture(scope="module")
def listened(ground):
    """The third notebook, by itself: there is no run yet."""
    few = {"SONGS": 2, "BETWEEN": 2, "SCORED": 4, "STEPS": 8}
    return run(read(LISTEN), ground / LISTEN, RECORDINGS="../recordings", **few)


@pytest.mark.parametrize("name", ["looked", "trained", "listened"])
def test_they_run_here_and_quietly(name, request):
    cells = request.getfixturevalue(name)
    told = text_of(cells.values())
    assert "Traceback" not in told and "Warning" not in told, told
    version = ".".join(map(str, sys.version_info[:3]))
    assert f"Python {version}" in text_of([cells["doctor"]])
    assert not cells["install"].outputs  # the package is there


def test_looking_shows_the_figures_and_gets_the_recording_back(looked, ground):
    told = text_of(looked.values())
    assert re.search(r"\d+\.\d s  \w+ .*\n1 recordings, \d+ s in all, at 22016 Hz", told)
    assert "[song, block, band, channel]: (1, 687, 128, 1)" in told
    error_db = float(re.search(r"largest error of what comes back: (-[\d.]+) dB", told).group(1))
    assert -160 < error_db < -100
    pictures = {id: shown([cell], "image/png") for id, cell in looked.items() if shown([cell], "image/png")}
    assert pictures == {"figure-1": 1, "figure-2": 1, "figure-2-song": 1, "threshold": 2, "figure-6": 1}
    players = {id: shown([cell], "text/html", "<audio") for id, cell in looked.items() if shown([cell], "text/html")}
    assert players == {"listen": 1, "hear-back": 2, "noise": 4}
    clean, noised = (float(figure) for figure in re.findall(r": (0\.\d{3})$", text_of([looked["tonality"]]), re.M))
    assert 0.3 < noised < clean < 1
    assert (ground / LOOK / "mp3net-work" / "corpus-22016" / "metadata.csv").is_file()


def test_training_leaves_a_run_and_draws_its_curves(trained, ground):
    assert "demo: 8 steps, songs at 5504 Hz" in text_of([trained["choose"]])
    assert "Dry run: nothing was trained or written." in text_of([trained["dry-run"]])
    assert "step 8/8" in text_of([trained["train"]]) and "Done." in text_of([trained["train"]])
    assert (ground / TRAIN / "mp3net-work" / "run" / "checkpoints" / "00000008").is_dir()
    assert shown([trained["curves"]], "image/png") == shown([trained["figure-5"]], "image/png") == 1
    assert shown([trained["previews"]], "image/png") == shown([trained["previews"]], "text/html", "<audio") == 2


def test_listening_makes_songs_a_page_and_scores(listened, ground):
    work = ground / LISTEN / "mp3net-work"
    assert "Done." in text_of([listened["run"]])  # there was no run: it trained one
    assert shown([listened["generate"]], "text/html", "<audio") == len(list((work / "songs").glob("*.wav"))) == 2
    assert shown([listened["between"]], "text/html", "<audio") == len(list((work / "between").glob("*.wav"))) == 2
    beside = [listened["beside"]]
    assert shown(beside, "image/png") == shown(beside, "text/html", "<audio") == 3
    assert shown([listened["gallery"]], "text/html", "<iframe srcdoc=") == 1
    assert "</html>" in (work / "gallery" / "index.html").read_text(encoding="utf-8")
    for id, folder in (("evaluate", "scores"), ("other", "scores-folders")):
        assert re.search(r"^tonality +0\.\d+ +0\.\d+", text_of([listened[id]]), re.M)
        assert json.loads((work / folder / "scores.json").read_text())


def test_listening_finds_the_run_and_stops_where_a_command_fails(trained, ground):
    book = broken(LISTEN, "generate", '"--n", str(SONGS)', '"--n", "0"')
    with pytest.raises(CellExecutionError) as caught:
        run(book, ground / TRAIN)
    assert caught.value.ename == "UsageError" and "--n 0" in caught.value.evalue
    cells = {cell.id: cell for cell in book.cells}
    assert not cells["run"].outputs
    assert "00000008: step 8," in text_of([cells["checkpoint"]])


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [('"--source", RECORDINGS', '"--source", "nowhere"', "UserError"), ('"--upmix"', '"--upmixed"', "SystemExit")],
)
def test_a_command_that_fails_stops_the_notebook(right, wrong, error, ground):
    book = broken(LOOK, "corpus", right, wrong)
    doctor = next(cell for cell in book.cells if cell.id == "doctor")
    doctor.source = doctor.source.replace("%matplotlib inline", "").replace("doctor.main", "str")  # they take seconds
    with pytest.raises(CellExecutionError) as caught:
        run(book, ground / "broken", RECORDINGS="../recordings")
    assert caught.value.ename == error
