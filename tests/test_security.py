"""What SECURITY.md promises, tried: nothing is unpickled or run, written elsewhere or opened besides, and text stays text."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.eval.detections import read_detections
from tal_run.extractors.spreadsheets import FORMULA, as_cell, from_cell
from tal_run.extractors.video import VideoError, open_video
from tal_run.models import Detection
from tal_run.pipeline import outputs

ROOT = Path(__file__).parents[1]
MODULES = [path for package in ("extractors", "models", "eval", "pipeline") for path in sorted((ROOT / package).glob("*.py"))]
AUDITED = ROOT / "tests" / "tools" / "audited.py"

# ---- nothing is unpickled, nothing is run, nothing is unpacked ----

UNPICKLERS = frozenset(
    {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "multiprocessing"}
)
# calls by their last name -> what makes one harmless: a keyword with its value, or the whole name
LOADERS: dict[str, Callable[[ast.Call, str], bool]] = {
    "load": lambda call, name: (
        name in ("json.load", "published_weights.load")  # the latter is ours
        or (name == "torch.load" and _keyword(call, "weights_only") is True)
        or (name == "np.load" and _keyword(call, "allow_pickle") is False)
    ),
    "loads": lambda call, name: name in ("json.loads", "tomllib.loads"),
    "read_pickle": lambda call, name: False,
    "extractall": lambda call, name: False,
    "unpack_archive": lambda call, name: False,
    "system": lambda call, name: name == "platform.system",
    "popen": lambda call, name: False,
    "full_load": lambda call, name: False,
    "unsafe_load": lambda call, name: False,
}
# files in which such a word means something else, or for which there is a reason
EXCEPTIONS = {
    "flow_kernels.py": r"calls [\w.]+\.load",  # LLVM's, of numbers out of memory
    "synthetic.py": r"imports multiprocessing.*",  # between processes of our own: no file, no stranger
    "train_curves.py": r"imports multiprocessing.*",  # the same
}
BUILTINS = frozenset({"eval", "exec", "compile", "__import__"})


def _keyword(call: ast.Call, name: str) -> object:
    return next((word.value.value for word in call.keywords if word.arg == name and isinstance(word.value, ast.Constant)), None)


def dangers(text: str) -> Iterator[str]:
    """What in a module could run what a file says."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        yield from (f"imports {name}" for name in names if name.split(".")[0] in {*UNPICKLERS, "tarfile"})
        yield from (f"imports {name}" for name in names if name in ("torch.hub", "torch.jit", "torch.multiprocessing"))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in BUILTINS or name.startswith(("torch.hub.", "torch.jit.")):
                yield f"calls {name}"
            is_harmless = LOADERS.get(node.func.attr) if isinstance(node.func, ast.Attribute) else None
            if is_harmless is not None and not is_harmless(node, name):
                yield f"calls {name}"
            if any(word.arg == "shell" for word in node.keywords):
                yield "starts a shell"
            if any(word.arg == "allow_pickle" and _keyword(node, "allow_pickle") is not False for word in node.keywords):
                yield "allows pickles"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_module_unpickles_runs_or_unpacks_what_a_file_holds(path: Path) -> None:
    expected = EXCEPTIONS.get(path.name)
    assert [danger for danger in dangers(path.read_text(encoding="utf-8")) if not re.fullmatch(expected or "", danger)] == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "import pickle",
            "from pickle import loads",
            "import dill as d",
            "from multiprocessing import Pool",
            "import tarfile",
        ),
        *("np.load(path)", "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=flag)", "numpy.load(path)"),
        *("torch.load(path)", "torch.load(path, weights_only=False)", "torch.hub.load('a', 'b')", "KeyedVectors.load(path)"),
        *("archive.extractall(folder)", "eval(text)", "exec(text)", "os.system(text)", "subprocess.run(text, shell=True)"),
        *("yaml.load(text)", "pandas.read_pickle(path)", "shutil.unpack_archive(path)", "np.save(path, a, allow_pickle=True)"),
    ],
)
def test_the_look_at_modules_sees_what_it_is_for(text: str) -> None:
    assert list(dangers(text))


def test_network_addresses_are_opened_in_one_place() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in MODULES}
    openers = {name for name, text in texts.items() if re.search(r"\burlopen\(|\brequests\.|HTTPConnection\(|httpx", text)}
    assert openers == {"weights.py"}


# ---- what a whole command does ----


@pytest.fixture(scope="module")
def factory() -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location("video_factory", ROOT / "tests" / "video_factory.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOSTILE_NAMES = (
    "=cmd|' !A1.mp4",
    "+1+1.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    '"><script>alert(1)<%2fscript>.mp4',
    "..mp4.mp4",
    "...mp4",
    "%2e%2e%2fx.mp4",
    "a\nb\x1b[31m.mp4",
    "-v.mp4",
    os.fsdecode(b"\xff\xfe.mp4"),
)


class Audit:
    """A folder in which commands run under audit, and what they did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("in", "out", "tmp", "home"):
            (folder / name).mkdir()
        self.log = folder / "log"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        home, temporary = str(self.folder / "home"), str(self.folder / "tmp")
        homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TAL_RUN_CACHE", "MPLCONFIGDIR"), home)
        environment = {**os.environ, **homes, "TMPDIR": temporary, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        environment.pop("TAL_RUN_WEIGHTS", None)
        return subprocess.run(
            [sys.executable, "-P", str(AUDITED), str(self.log), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            check=False,
        )

    def events(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def audit(factory: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """`tal-run features` and `tal-run detect` over videos with hostile names, once."""
    audit = Audit(tmp_path_factory.mktemp("audit"))
    factory.make_video(audit.folder / "video.mp4", frame_count=30)
    content = (audit.folder / "video.mp4").read_bytes()
    (audit.folder / "video.mp4").unlink()
    for name in HOSTILE_NAMES:
        (audit.folder / "in" / name).write_bytes(content)
    before = {path: path.read_bytes() for path in (audit.folder / "in").iterdir()}
    made = audit.run("features", "in", "-o", "out/features", "--backbone", "starter")
    assert made.returncode in (0, 1), made.stderr
    targets = [word for ending in ("json", "jsonl", "csv", "html") for word in ("-o", f"out/found.{ending}")]
    found = audit.run("detect", "--backbone", "starter", "--min-score", "0", *targets, "--", *map(str, before))
    assert found.returncode == 0, found.stderr
    assert {path: path.read_bytes() for path in (audit.folder / "in").iterdir()} == before
    return audit


@pytest.mark.timeout(600)
class TestCommand:
    def test_nothing_is_unpickled(self, audit: Audit) -> None:
        assert [event for event in audit.events() if event[0] == "pickle.find_class"] == []

    def test_no_connection_is_made_or_looked_up(self, audit: Audit) -> None:
        assert [event for event in audit.events() if event[0].startswith("socket.")] == []

    def test_no_program_is_started_but_the_decoder(self, audit: Audit) -> None:
        assert {event[1] for event in audit.events() if event[0] in ("subprocess.Popen", "os.exec")} == {sys.executable}

    def test_nothing_is_written_outside_of_the_output(self, audit: Audit) -> None:
        """But for temporary files and caches, which have their own folders."""
        allowed = [str(audit.folder / name) for name in ("out", "tmp", "home")]
        strays = [
            event
            for event in audit.events()
            if event[0] not in ("subprocess.Popen", "os.exec", "pickle.find_class")
            and not any(event[1] == folder or event[1].startswith(f"{folder}/") for folder in allowed)
            and event[1] not in (os.devnull, "/proc/self/oom_score_adj")  # a worker is the first to go
        ]
        assert strays == []
        assert {path.name for path in audit.folder.iterdir()} == {"in", "out", "tmp", "home", "log"}
        assert not list((audit.folder / "tmp").iterdir())

    def test_the_audit_sees_what_it_is_for(self, tmp_path: Path) -> None:
        script = (
            "import sys, types, runpy\n"
            "def main():\n"
            "    import collections, pickle, socket\n"
            "    pickle.loads(pickle.dumps(collections.OrderedDict()))\n"
            "    open('stray', 'w').close()\n"
            "    socket.socket().connect_ex(('127.0.0.1', 9))\n"
            "sys.modules['tal_run.pipeline.cli'] = types.SimpleNamespace(main=main)\n"
            f"sys.argv = ['audited.py', 'log']\nrunpy.run_path({str(AUDITED)!r}, run_name='__main__')\n"
        )
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
        events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert {"pickle.find_class", "open", "socket.connect"} <= {event[0] for event in events}

    def test_no_cell_is_a_formula(self, audit: Audit) -> None:
        text = (audit.folder / "out" / "found.csv").read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert any(row["video_id"].startswith("'=cmd|") for row in rows)
        for row in rows:
            for cell in row.values():
                assert cell.startswith("'") or not FORMULA.match(cell), cell

    def test_ids_come_back_as_they_were(self, audit: Audit) -> None:
        ids = {
            name: set(read_detections(audit.folder / "out" / f"found.{name}").video_ids) for name in ("csv", "json", "jsonl")
        }
        assert ids["csv"] == ids["json"] == ids["jsonl"]
        assert "=cmd|' !A1" in ids["csv"]

    def test_the_page_has_no_script_and_no_tag_of_theirs(self, audit: Audit) -> None:
        text = (audit.folder / "out" / "found.html").read_text(encoding="utf-8")
        tags: list[tuple[str, dict[str, str | None]]] = []

        class Tags(HTMLParser):
            def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
                tags.append((tag, dict(attributes)))

        Tags().feed(text)
        assert [tag for tag, _ in tags].count("script") == 2  # the page's data and its program
        assert not re.search(r"<(img|script)[^>]*(onerror|alert)", text)
        assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
        assert all(str(attributes["src"]).startswith("./") for tag, attributes in tags if tag == "video")

    def test_a_name_cannot_lead_out_of_the_folder(self, audit: Audit) -> None:
        made = [path for path in (audit.folder / "out" / "features").rglob("*") if path.is_file()]
        assert made
        assert {path.parent for path in made} <= {
            audit.folder / "out" / "features",
            audit.folder / "out" / "features" / "failures",
        }

    def test_the_audit_sees_workers_too(self, audit: Audit) -> None:
        made = {str(path) for path in (audit.folder / "out" / "features").glob("*.npz")}
        assert made
        assert made <= {path for event, *paths in audit.events() if event == "os.rename" for path in paths}


# ---- cells ----


@given(
    st.text()
    | st.builds(
        lambda marks, start, rest: "'" * marks + start + rest, st.integers(0, 3), st.sampled_from("=+-@\t\r＝"), st.text()
    )
)
def test_every_text_comes_back_and_is_no_formula_meanwhile(text: str) -> None:
    cell = as_cell(text)
    assert from_cell(cell) == text
    assert not re.match(r"\s*[=@＝＠]|[\t\r\n]", cell)
    if re.match(r"\s*[+-]", cell):
        assert re.fullmatch(r"\s*[+-][A-Za-z0-9_.-]*", cell)


@pytest.mark.parametrize("text", ["-5KAN9_CzSA", "-1.5", "+3", "-", "run", "'tis", "a=b", "v_-x", "3", "", "--x"])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert as_cell(text) == text


@pytest.mark.parametrize(
    "text", ["=1+1", "-1+1", "+cmd|' /C calc'!A0", "-A1(2)", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "'=1", "''-(1)"]
)
def test_what_may_be_one_gets_an_apostrophe(text: str) -> None:
    assert as_cell(text) == f"'{text}"


def test_numbers_are_left_alone_and_detections_come_back(tmp_path: Path) -> None:
    found = {
        "=a": [Detection(0.0, 1.5, "@b", 0.25)],
        "-c": [Detection(2.0, 3.0, "'=d", 1e-6)],
        "'e": [Detection(4.0, 5.0, "-1+1", 0.5)],
    }
    text = outputs.rendered("csv", found)
    assert "'=a,'@b,0.0,1.5,0.25\n" in text
    (tmp_path / "found.csv").write_text(text, encoding="utf-8")
    back = read_detections(tmp_path / "found.csv")
    assert back.video_ids == tuple(found)
    assert back.labels == ("@b", "'=d", "-1+1")
    np.testing.assert_array_equal(back.scores, [0.25, 1e-6, 0.5])


def test_the_page_s_own_export_goes_by_the_same_rule() -> None:
    script = (ROOT / "pipeline" / "data" / "report.js").read_text(encoding="utf-8")
    (rule,) = re.findall(r"const FORMULA = /\^(.*)/;", script)
    assert rule == FORMULA.pattern.replace(r"\Z", "$")


# ---- files that name other files ----


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + kind + content


def with_reference(content: bytes, reference: bytes) -> bytes:
    """An MP4 file whose data lie elsewhere, as its one ``dref`` entry says; the chunks' places stay."""
    place = content.index(b"dref") - 4
    (size,) = struct.unpack(">I", content[place : place + 4])
    new = box(b"dref", struct.pack(">II", 0, 1), reference)
    longer = len(new) - size
    changed = bytearray(content[:place] + new + content[place + size :])
    for name in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = changed.rindex(name, 0, place + 8) - 4
        (old,) = struct.unpack(">I", changed[at : at + 4])
        changed[at : at + 4] = struct.pack(">I", old + longer)
    return bytes(changed)


def alias(path: Path) -> bytes:
    """QuickTime's ``alis``: names of volume, folder and file, and the path (kind 2), as FFmpeg reads them."""
    text = str(path).encode()
    # version and flags, 10 bytes, volume's name (28), 12, file's name (64), 16, levels from and to, 16
    head = struct.pack(">I", 0) + bytes(10) + bytes((1,)) + b"v" + bytes(26) + bytes(12)
    name = path.name.encode()[:62]
    head += bytes((len(name),)) + name + bytes(63 - len(name)) + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    pad = b"\0" * (len(text) % 2)
    return box(b"alis", head, struct.pack(">hh", 2, len(text)), text, pad, struct.pack(">hh", -1, 0))


def samples_of(path: Path, decoder: str) -> list[np.ndarray[Any, Any]]:
    with open_video(path, decoder=decoder) as video:
        return [frame for chunk in video.frames(fps=25) for frame in chunk.frames]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("kind", ["alis", "url", "url-file", "urn", "rdrf"])
def test_a_film_that_says_its_pictures_lie_in_another_file_shows_none_of_them(
    tmp_path: Path, factory: ModuleType, kind: str, decoder: str
) -> None:
    """QuickTime's data references and reference movies: the other file has the same pictures, at the same places."""
    factory.make_video(tmp_path / "secret.mp4", frame_count=10)
    content = (tmp_path / "secret.mp4").read_bytes()
    target = tmp_path / "secret.mp4"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/secret.mp4".encode()
        references = {
            "alis": alias(target),
            "url": box(b"url ", struct.pack(">I", 0), address, b"\0"),
            "url-file": box(b"url ", struct.pack(">I", 0), target.as_uri().encode(), b"\0"),
            "urn": box(b"urn ", struct.pack(">I", 0), b"x\0", target.as_uri().encode(), b"\0"),
        }
        if kind == "rdrf":
            link = target.as_uri().encode() + b"\0"
            reference = box(b"rmda", box(b"rdrf", struct.pack(">I4sI", 0, b"url ", len(link)), link))
            film = content[: content.index(b"mdat") - 4].partition(b"moov")[0][:-4] + box(b"moov", box(b"rmra", reference))
        else:
            film = with_reference(content, references[kind])
            at = film.index(b"mdat") + 4
            end = at + struct.unpack(">I", film[at - 8 : at - 4])[0] - 8
            film = film[:at] + bytes(end - at) + film[end:]  # nothing is left to be shown but what lies elsewhere
        (tmp_path / "film.mov").write_bytes(film)
        target.touch()
        os.utime(target, ns=(0, 0))
        with pytest.raises(VideoError) as caught:
            samples_of(tmp_path / "film.mov", decoder)
        assert "; " in str(caught.value)
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_reference_itself_is_well_made(tmp_path: Path, factory: ModuleType) -> None:
    """FFmpeg follows it, where it is told to: so it is for another reason that nothing is shown above."""
    import av

    factory.make_video(tmp_path / "secret.mp4", frame_count=10)
    content = (tmp_path / "secret.mp4").read_bytes()
    film = with_reference(content, alias(tmp_path / "secret.mp4"))
    at = film.index(b"mdat") + 4
    end = at + struct.unpack(">I", film[at - 8 : at - 4])[0] - 8
    (tmp_path / "film.mov").write_bytes(film[:at] + bytes(end - at) + film[end:])
    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(tmp_path / "film.mov"), options=options) as container:
        assert len(list(container.decode(video=0))) == 10


# ---- the promises' own page ----


def test_every_test_that_the_page_names_is_there() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 5
    for path, test in named:
        content = (ROOT / path).read_text(encoding="utf-8")
        assert not test or re.search(rf"(def|class) {test}\b", content), f"{path}::{test}"
