"""Shared pictures and networks. Real photographs come from scikit-image's packaged images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from skimage import data

from derain import create_model
from derain.weights import save_file

# The same examples in every run, and no failure because a machine is busy.
settings.register_profile("derain", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("derain")


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    import torch

    torch.set_num_threads(2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads gain little on crops, and lose much beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.uint8]:
    """A color photograph, 200×300×3 uint8."""
    return np.ascontiguousarray(data.astronaut()[100:300, 100:400])


@pytest.fixture(scope="session")
def small_weight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny gated U-Net that visibly changes its input, as a file for ``--model``."""
    import torch

    torch.manual_seed(0)
    settings = {"channels": [8, 16], "blocks": [1, 1]}
    network = create_model("gated-unet", **settings)
    torch.nn.init.normal_(network.head.weight, std=0.05)  # type: ignore[union-attr, arg-type]
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(network, path, model="gated-unet", settings=settings)
    return path


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which a local server shows it."""
    (tmp_path / "www").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield tmp_path / "www", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], small_weight: Path) -> Callable[..., tuple[int, str, str]]:
    """Run ``derain ARGS...`` in this process; gives exit code, stdout and stderr."""
    import sys
    from unittest import mock

    from derain.cli.main import main

    def call(*arguments: object) -> tuple[int, str, str]:
        words = [str(a) for a in arguments]
        if words[0] == "run" and "--model" not in words:
            words += ["--model", str(small_weight)]
        code = 0
        with mock.patch.object(sys, "argv", ["derain", *words]):
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call
