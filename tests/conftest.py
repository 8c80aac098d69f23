"""What every test may use: the real clips and weights where they are at hand, and how slow tests are asked for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SHARED = Path(__file__).parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the whole-pipeline tests on real video")


def pytest_configure(config: pytest.Config) -> None:
    """Settle what is luck, and take Ctrl-C as in the foreground.

    Examples are the same in every run, but for slow runs, which search for new ones; and no machine is too busy. What a shell
    starts in the background ignores Ctrl-C, and so would what the tests start.
    """
    settings.register_profile(
        "tal-run",
        derandomize=not config.getoption("--run-slow"),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("tal-run")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run it with `make test-slow`"))


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips."""
    folder = SHARED / "clips"
    if not folder.is_dir():
        pytest.skip("the real clips (../shared/clips) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def weights() -> Iterator[Path]:
    """A folder of real weights, named in ``TAL_RUN_WEIGHTS`` while the tests run."""
    named = filter(None, os.environ.get("TAL_RUN_WEIGHTS", "").split(os.pathsep))
    for folder in (SHARED / "weights", *map(Path, named)):
        if list(folder.glob("**/movinet_a0_stream_int8.tflite")):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TAL_RUN_WEIGHTS", str(folder))
                yield folder
            return
    pytest.skip("the MoViNet weights are not at hand: put them into a folder named in TAL_RUN_WEIGHTS")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for one another make small layers slow on a busy machine."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
