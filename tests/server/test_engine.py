"""The queue before the network: its limit, batches, time limits."""

from __future__ import annotations

import concurrent.futures
import io
import threading
import time

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from derain.server.app import create_app
from support.server import UPLOAD, small_settings, wait_until


def test_a_full_queue_gives_429_with_a_time_to_retry(small_weight, image_files):
    app = create_app(small_settings(small_weight, queue=2))
    engine = app.state.server.engine
    gate = threading.Event()
    with TestClient(app) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        engine._pool.submit(gate.wait)  # the only worker is busy
        queued = [pool.submit(client.post, UPLOAD, content=image_files["png"]) for _ in range(2)]
        wait_until(lambda: engine.waiting == 2)
        rejected = client.post(UPLOAD, content=image_files["png"])
        gate.set()
        assert rejected.status_code == 429
        assert 1 <= int(rejected.headers["retry-after"]) <= 60
        assert [request.result().status_code for request in queued] == [200, 200]
        assert engine.waiting == engine.working == 0
        assert app.state.server.upload_memory.used == 0


def test_images_of_equal_size_go_through_the_network_together(client, small_weight, image_files):
    alone = client.post(UPLOAD, content=image_files["png"]).content
    app = create_app(small_settings(small_weight, batch=4))
    gate, sizes = threading.Event(), []
    with TestClient(app) as other, concurrent.futures.ThreadPoolExecutor(4) as pool:
        batching = app.state.server.engine._loaded[1].runtime
        inner = batching.inner

        def slow(batch):
            sizes.append(len(batch))
            gate.wait(20)
            return inner(batch)

        batching.inner = slow
        requests = [pool.submit(other.post, UPLOAD, content=image_files["png"]) for _ in range(4)]
        wait_until(lambda: sizes and sum(map(len, batching._open.values())) == 3)
        gate.set()
        for request in requests:  # a batch may round differently from a single image
            result = np.asarray(Image.open(io.BytesIO(request.result().content)), np.int16)
            assert np.abs(result - np.asarray(Image.open(io.BytesIO(alone)))).max() <= 1
        assert sizes == [1, 3]
        assert app.state.server.engine.working == 0


def test_waiting_too_long_gives_503_and_frees_the_slot(small_weight, image_files):
    app = create_app(small_settings(small_weight, timeout=0.2))
    engine = app.state.server.engine
    gate = threading.Event()
    with TestClient(app) as client:
        engine._pool.submit(gate.wait)
        response = client.post(UPLOAD, content=image_files["png"])
        gate.set()
        assert response.status_code == 503
        assert response.headers["retry-after"]
        wait_until(lambda: engine.waiting == 0)
    assert app.state.server.upload_memory.used == 0


def test_processing_too_long_gives_504_and_stops_at_the_next_tile(small_weight, photo):
    app = create_app(small_settings(small_weight, timeout=0.3, tile=192))
    body = io.BytesIO()
    Image.fromarray(photo).save(body, "PNG")
    with TestClient(app) as client:
        engine = app.state.server.engine
        inference = engine._loaded[1]._inference
        runtime = inference.runtime
        tiles = []

        def slow(batch):
            tiles.append(1)
            time.sleep(0.2)
            return runtime(batch)

        slow.device = runtime.device
        inference.runtime = slow
        assert client.post(UPLOAD, content=body.getvalue()).status_code == 504
        wait_until(lambda: engine.working == 0)
        assert len(tiles) < 4  # of 2 × 4
