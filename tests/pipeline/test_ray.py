"""`tal-run batch --engine ray` on a cluster whose nodes are lost on the way: it comes to what the other engine comes to."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tal_run.pipeline import batch_store, cli_batch, ray_engine, ray_station, workers
from tal_run.pipeline.batch_locks import Run
from tal_run.pipeline.batch_videos import FoundVideo

# a cluster is a dozen processes, and on a busy machine takes a minute to come up
pytestmark = pytest.mark.timeout(400)
has_ray = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not has_ray, reason="Ray is not installed: pip install 'tal-run[ray]'")


@pytest.fixture(scope="module")
def cluster(clusters: Any, batches: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without CPUs and two nodes of two each."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / f"{batches.MODULE}.py").write_text(batches.WORKER)
    try:
        made = clusters.RayCluster(folder, folder / "log")
    except AssertionError as error:
        if any(words in str(error) for words in ("timed out during startup", "Deadline Exceeded")):
            pytest.skip("this machine is too busy for a Ray cluster, whose nodes must come up within 30 s")
        raise
    made.log = folder / "log"
    try:
        made.add(num_cpus=2)
        made.add(num_cpus=2)
        yield made
    finally:
        made.close()


@pytest.fixture
def case(batches: Any, cluster: Any, tmp_path: Path) -> Any:
    case = batches.Case(tmp_path)
    case.log = cluster.log
    case.log.unlink(missing_ok=True)
    case.ray = ("--engine", "ray", "--ray-address", cluster.address)
    return case


def without_times(failures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in record.items() if key not in ("elapsed_s", "sha256")}
        for name, record in failures.items()
    }


@needs_ray
def test_it_comes_to_what_the_other_engine_comes_to(case: Any, batches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        case.write(f"sub/{number}.mp4", f"found {number}")
    texts = {"bad.mp4": "error", "odd.mp4": "odd", "crash.mp4": "crash", "grow.mp4": "grow found 1", "hang.mp4": "hang"}
    for name, text in {**texts, os.fsdecode(b"caf\xe9 \n.mp4"): "found 1"}.items():
        case.write(name, text)
    monkeypatch.setattr(workers, "Limits", partial(workers.Limits, base_s=2.0))
    status, said = case.run("--time-limit", "1", *case.ray)
    assert status == 1, said
    assert "Ray: 3 nodes with room for 2 workers" in said
    assert batches.leftovers(case.out) == []
    (case.videos / "grow.mp4").write_text("grow found 1")  # as it was
    calm = case.folder / "calm"
    assert case.run("--time-limit", "1", "--workers", "2", out=calm)[0] == 1
    assert list(case.results()) == list(case.results(calm))
    for name, content in case.results().items():
        assert json.loads(content)["results"] == json.loads(case.results(calm)[name])["results"]
    ours, theirs = without_times(case.failures()), without_times(case.failures(calm))
    for records in (ours, theirs):
        records["grow.mp4"].pop("seen")  # its time
    assert ours == theirs
    assert {name: record["kind"] for name, record in ours.items()} == {
        "bad.mp4": "error",
        "odd.mp4": "unforeseen",
        "crash.mp4": "died",
        "grow.mp4": "error",
        "hang.mp4": "time",
    }
    assert (case.out / "detections.csv").read_bytes() == (calm / "detections.csv").read_bytes()
    # what one engine has made the other keeps
    case.watched()
    status, said = case.run("--time-limit", "1")
    assert "0 done, 5 kept, " in said
    assert case.watched() in ([], ["grow.mp4"])


@needs_ray
def test_a_node_that_is_lost_costs_nothing_and_one_that_joins_is_used(
    case: Any, cluster: Any, batches: Any, clusters: Any
) -> None:
    for number in range(24):
        case.write(f"{number:02}.mp4", f"sleep 0.4 found {number % 5}")
    case.write("fatal.mp4", "orphan")
    run = case.start(*case.ray)
    clusters.wait_for(lambda: case.log.exists())
    cluster.lose(cluster.nodes[0])
    cluster.add(num_cpus=2)
    said = run.communicate(timeout=200)[1]
    assert run.returncode == 1, said
    assert "was lost; its video is tried again elsewhere" in said
    failures = case.failures()
    assert list(failures) == ["fatal.mp4"], said
    assert (failures["fatal.mp4"]["kind"], failures["fatal.mp4"]["attempts"]) == ("lost", 1)
    assert "4 workers or their nodes were lost" in failures["fatal.mp4"]["error"]
    found = {name: sum(map(len, json.loads(content)["results"].values())) for name, content in case.results().items()}
    assert found == {f"{number:02}.mp4.json": number % 5 for number in range(24)}
    assert set(case.manifest()) == {"fatal.mp4", *(f"{number:02}.mp4" for number in range(24))}
    watched = case.watched()
    assert len(watched) <= 24 + 4 + 2  # what was in hand on the node, and the fatal one's, again
    assert batches.leftovers(case.out) == []


@needs_ray
def test_after_sigkill_of_the_parent_it_goes_on_and_nothing_is_left_on_the_nodes(
    case: Any, cluster: Any, batches: Any, clusters: Any
) -> None:
    for number in range(8):
        case.write(f"{number}.mp4", f"sleep 0.5 found {number}")
    case.write("a long one.mp4", "sleep 90 found 1")
    run = case.start(*case.ray)
    clusters.wait_for(lambda: case.log.exists() and len(case.log.read_text().splitlines()) >= 3)
    run.kill()
    run.communicate()
    clusters.wait_for(lambda: not [pid for node in cluster.nodes for pid in clusters.descendants(node) if is_ours(pid)])
    before = case.results()
    case.write("a long one.mp4", "found 1")
    case.watched()
    # and as if nodes did not see OUT: results are returned
    blind = """
from tal_run.pipeline.ray_engine import RayWorker
asked = RayWorker._asked
def blinded(self, message, hook):
    if "task" in message:
        message["task"]["keep"]["folder"] = "/nowhere"
    answer = asked(self, message, hook)
    assert not answer.get("is_kept")
    return answer
RayWorker._asked = blinded
"""
    run = case.start(*case.ray, before=blind)
    said = run.communicate(timeout=200)[1]
    assert run.returncode == 0, said
    assert f"{9 - len(before)} done, {len(before)} kept, 0 failed" in said
    assert len(case.results()) == 9
    assert before.items() <= case.results().items()
    assert batches.leftovers(case.out) == []


def is_ours(pid: int) -> bool:
    try:
        return b"fake_detector" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@needs_ray
def test_ctrl_c_and_ctrl_c_twice(case: Any, batches: Any, clusters: Any) -> None:
    for number in range(6):
        case.write(f"{number}.mp4", "sleep 1 found 1")
    run = case.start(*case.ray)
    clusters.wait_for(lambda: case.log.exists())
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=120)[1]
    assert run.returncode == 130, said
    assert "finishing the videos in hand (Ctrl-C again stops now)" in said
    assert 1 <= len(case.results()) < 6
    case.watched()
    for number in range(6):
        case.write(f"{number}.mp4", "sleep 60 found 1")
    run = case.start(*case.ray)
    clusters.wait_for(lambda: case.log.exists())
    began_s = time.monotonic()
    run.send_signal(signal.SIGINT)
    time.sleep(0.6)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=120)[1]
    assert run.returncode == 130, said
    assert time.monotonic() - began_s < 20
    assert case.failures() == {}
    assert batches.leftovers(case.out) == []


@needs_ray
def test_a_cluster_that_cannot_do_it_says_so(case: Any) -> None:
    case.write("a.mp4")
    status, said = case.run(*case.ray, "--device", "cuda")
    assert status == 2
    assert "the Ray cluster has no GPU (3 nodes, 4 CPUs): add a node that has one, or give --device cpu" in " ".join(
        said.split()
    )
    status, said = case.run(*case.ray, "--query", "nonsense")
    assert status == 2
    assert f"Error: node {socket.gethostname()}: nothing matches: ask otherwise" in said
    assert not case.out.exists()


@needs_ray
def test_a_node_on_which_no_worker_can_begin_is_done_without(case: Any, cluster: Any, batches: Any) -> None:
    for number in range(6):
        case.write(f"{number}.mp4", "sleep 0.5 found 1")
    path = case.environment["PYTHONPATH"].split(os.pathsep)[1:]  # the detector is not to be found there
    unfit = cluster.add(num_cpus=8, env_vars={"PYTHONPATH": os.pathsep.join(path)})
    try:
        run = case.start(*case.ray, "--workers", "5")
        said = run.communicate(timeout=200)[1]
    finally:
        cluster.lose(unfit)
    assert run.returncode == 0, said
    assert "No module named fake_detector; no more is given to it" in said
    assert len(case.results()) == 6
    assert batches.leftovers(case.out) == []


class TestWithoutACluster:
    @pytest.fixture
    def alone(self, batches: Any, tmp_path: Path) -> Any:
        case = batches.Case(tmp_path)
        case.write("a.mp4")
        return case

    @needs_ray
    def test_an_address_where_nothing_or_nobody_of_ray_s_answers(self, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_engine, "CONNECT_S", 6.0)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            status, said = alone.run("--engine", "ray", "--ray-address", f"127.0.0.1:{port}")
            assert status == 2
            assert f"the Ray cluster (127.0.0.1:{port}) did not answer within 6 s" in " ".join(said.split())
        status, said = alone.run("--engine", "ray", "--ray-address", f"127.0.0.1:{port}")
        assert status == 2
        assert f"no Ray cluster answers at 127.0.0.1:{port}" in " ".join(said.split())
        assert "ray start --head" in said

    def test_wrong_use(self, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "--ray-address goes with --engine ray" in alone.run("--ray-address", "a:1")[1]
        monkeypatch.setattr(cli_batch.importlib.util, "find_spec", lambda _name: object())
        for wrong in ("ray://a:10001", "a", "a:b", "a:99999", "a:0", ""):
            status, said = alone.run("--engine", "ray", "--ray-address", wrong)
            assert status == 2
            assert f"--ray-address '{wrong}' is no HOST:PORT" in said
        status, said = alone.run("--engine", "ray", "--device", "cuda:0,cuda:1")
        assert status == 2
        assert "which GPU a worker gets is Ray's choice" in said
        monkeypatch.setattr(cli_batch.importlib.util, "find_spec", lambda _name: None)
        status, said = alone.run("--engine", "ray")
        assert status == 2
        assert "pip install 'tal-run[ray]'" in said


class TestStation:
    """The part that runs on nodes, without Ray."""

    @pytest.fixture
    def video(self, tmp_path: Path) -> Path:
        path = tmp_path / "a.mp4"
        path.write_text("found 1")
        return path

    def test_a_video_that_is_another_on_the_node_is_told(self, video: Path) -> None:
        seen = batch_store.seen_of(video)
        assert seen
        assert ray_station.unlike(str(video), seen) == ""
        assert "another size or age" in ray_station.unlike(str(video), {**seen, "bytes": 8})
        os.utime(video, ns=(0, seen["content_ns"] + 1_000_000_000))
        assert ray_station.unlike(str(video), seen) == ""
        os.utime(video, ns=(0, seen["content_ns"] + 3_000_000_000))
        assert "another size or age" in ray_station.unlike(str(video), seen)
        video.unlink()
        assert "nodes must see the videos under the same names" in ray_station.unlike(str(video), seen)
        os.mkfifo(video)
        assert "cannot be read" in ray_station.unlike(str(video), seen)

    def test_it_writes_where_its_run_is_at_work_and_nowhere_else(self, video: Path, tmp_path: Path) -> None:
        store = batch_store.Store(tmp_path / "out")
        plan = {"probe": None, "module": "", "how": {}, "limits": {}, "threads": 1, "version": ""}
        seen = batch_store.seen_of(video)
        found = FoundVideo("a.mp4", video, 7)
        answer = {"document": {"results": {"a": []}, "external_data": {}}, "video_sha256": "0", "duration_s": 1.0}
        station = ray_station.Station(json.dumps(plan))
        with Run(store.locks, recipe="r") as run:
            keep = {"folder": str(store.real), "run": run.run_id, "video": "a.mp4", "recipe": "r", "seen": seen}
            assert not station._kept(found, answer, {**keep, "run": "another"})
            assert not station._kept(found, answer, {**keep, "folder": "/nowhere"})
            assert store.standing(found, "r").state == "left"
            assert station._kept(found, answer, keep)
            assert store.standing(found, "r", is_racy_fine=True).state == "done"
            store.result_file(found).unlink()
            station.halt()
            assert not station._kept(found, answer, keep)
        assert not ray_station.Station(json.dumps(plan))._kept(found, answer, keep)  # the run is over
        assert store.standing(found, "r").state == "left"
