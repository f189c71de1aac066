"""What many tests need: the PngSuite, models that deflate, and a run that fails where tests were skipped."""

import logging
import os
import sys
from pathlib import Path

import pytest

from nvae_codec.zoo import library as model_library
from tests.fakes import FakeLoader, write_fake_model

# tiny networks gain nothing from threads and lose much beside other processes; tests that need two ask for them
os.environ.setdefault("OMP_NUM_THREADS", "1")

NEEDED_ELSEWHERE = ("CUDA", "NVAE_CONFORMANCE")
"""Tests may be skipped for want of a GPU, and of reference cases that are not part of this repository."""

# whether loops are compiled already depends on what ran before
logging.getLogger("nvae_codec.compiled").setLevel(logging.ERROR)

PNGSUITE = Path(__file__).parent / "data" / "pngsuite"


@pytest.fixture
def fake_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeLoader:
    """The models photo and mnist are installed, and loading one gives a codec that deflates."""
    folder = tmp_path_factory.mktemp("models")
    write_fake_model(folder, "photo").with_name("card.md").write_text("# A model of photographs\n\nIt deflates.\n")
    write_fake_model(folder, "mnist")
    loader = FakeLoader()
    monkeypatch.setattr(model_library, "MODELS_FOLDER", folder)
    monkeypatch.setitem(sys.modules, "nvae_codec.zoo.load", loader)
    return loader


@pytest.fixture(scope="session")
def pngsuite() -> Path:
    return PNGSUITE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="fail where a test is skipped that needs no GPU")
    parser.addoption(
        "--may-lack", action="append", default=[], metavar="PROGRAM", help="which tests may be skipped for"
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not session.config.getoption("--fail-on-skip"):
        return
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    allowed = [*NEEDED_ELSEWHERE, *session.config.getoption("--may-lack")]
    unexpected = [reason for reason in skipped if not any(name in reason for name in allowed)]
    for reason in unexpected:
        reporter.write_line(f"skipped, which fails this run: {reason}", red=True)
    if unexpected:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
