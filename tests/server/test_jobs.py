"""Video jobs."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra derain[server] is not installed")
av = pytest.importorskip("av")
from fastapi.testclient import TestClient  # noqa: E402

from derain import images  # noqa: E402
from derain.server.app import create_app  # noqa: E402
from derain.server.settings import Settings  # noqa: E402

LIMITS = {"max_pixels": 40_000, "max_bytes": 100_000, "max_jobs": 3, "max_frames": 60, "timeout": 30}


def clip(photo: np.ndarray, frames: int = 6, size: tuple[int, int] = (96, 64)) -> bytes:
    """An MP4 of a pan."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=25, width=size[0], height=size[1], pix_fmt="yuv420p")
        video.codec_context.options = {"preset": "ultrafast"}
        for i in range(frames):
            part = np.ascontiguousarray(np.resize(photo[:, i : i + size[0]], (size[1], size[0], 3)))
            out.mux(video.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        out.mux(video.encode(None))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client(small_weight):
    with TestClient(create_app(Settings(**LIMITS, model=str(small_weight)))) as client:
        yield client


@pytest.fixture(autouse=True)
def remove_jobs(client):
    yield
    for name in list(client.app.state.server.jobs._jobs):
        client.delete(f"/v1/jobs/{name}")


def wait_for_state(client: TestClient, name: str, state: str) -> dict:
    for _ in range(1200):
        job = client.get(f"/v1/jobs/{name}").json()
        if job["state"] in (state, "failed", "done"):
            break
        time.sleep(0.05)
    assert job["state"] == state, job
    return job


def folders(client: TestClient) -> list[Path]:
    folder = client.app.state.server.jobs._folder
    return sorted(folder.iterdir()) if folder is not None else []


def test_bytes_equal_those_of_the_command(client, command, photo, tmp_path):
    data = clip(photo)
    response = client.post("/v1/video", content=data)
    assert response.status_code == 202, response.text
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    job = wait_for_state(client, job["id"], "done")
    assert (job["frames_done"], job["frames"], job["notes"]) == (6, 6, [])
    assert 3500 < job["removed_in"] <= 3600
    result = client.get(job["result"])
    assert result.headers["content-type"] == "video/mp4"
    assert "derained.mp4" in result.headers["content-disposition"]
    (tmp_path / "clip.mp4").write_bytes(data)
    assert command("run", tmp_path / "clip.mp4", "-o", tmp_path / "out.mp4")[0] == 0
    assert result.content == (tmp_path / "out.mp4").read_bytes()
    assert [p.name for p in folders(client)[0].iterdir()] == ["derained.mp4"]  # the upload is gone
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(job["result"]).status_code == 404
    assert folders(client) == []


def test_multipart_and_options(client, photo):
    data = clip(photo)
    response = client.post(
        "/v1/video", params={"format": "mkv", "crf": 40, "frame_by_frame": True}, files={"file": ("../../x", data)}
    )
    job = wait_for_state(client, response.json()["id"], "done")
    result = client.get(job["result"])
    assert result.content[:4] == b"\x1aE\xdf\xa3"
    assert result.headers["content-type"] == "video/x-matroska"
    wrong_ones = ({"format": "exe"}, {"crf": 99}, {"model": "no such"}, {"model": "/etc/passwd"}, {"strength": 0.5})
    for wrong in wrong_ones:
        assert client.post("/v1/video", params=wrong, content=data).status_code == 422
        assert client.post("/v1/video", data=wrong, files={"file": ("x", data)}).status_code == 422
    assert client.post("/v1/video?crf=40&crf=41", content=data).status_code == 422
    assert len(folders(client)) == 1


def test_options_may_be_fields_of_the_form(client, photo):
    data, options = clip(photo), {"format": "mkv", "crf": "40", "frame_by_frame": "true"}
    results = []
    for form in (False, True):
        files = {"file": ("x", data)}
        response = client.post("/v1/video", **({"data": options} if form else {"params": options}), files=files)
        job = wait_for_state(client, response.json()["id"], "done")
        result = client.get(job["result"])
        head = client.head(job["result"])
        assert (head.content, head.headers["content-length"]) == (b"", str(len(result.content)))
        results.append((result.headers["content-type"], frames_of(result.content)))
    assert results[0] == results[1]
    assert results[0][0] == "video/x-matroska"


def frames_of(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def test_other_files_are_rejected_before_they_are_queued(client, photo):
    (concat, playlist) = (b"ffconcat version 1.0\nfile /etc/hostname\n", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    for data in (b"", b"rubbish" * 50, concat, playlist, clip(photo)[:600]):
        response = client.post("/v1/video", content=data)
        assert response.status_code == 415, data[:20]
        message = response.json()["error"]
        assert "/" not in message.replace("/openapi", "")
        assert "\n" not in message
    large = client.post("/v1/video", content=clip(photo, 2, (256, 176)))
    assert (large.status_code, "megapixels" in large.json()["error"]) == (413, True)
    assert client.post("/v1/video", content=bytes(900_000)).status_code == 413
    assert folders(client) == []


def test_too_many_frames_fail_with_a_message(client, photo):
    response = client.post("/v1/video", content=clip(photo, 61))
    job = wait_for_state(client, response.json()["id"], "failed")
    assert "61 frames, more than 60" in job["error"]
    result = client.get(f"/v1/jobs/{job['id']}/result")
    assert (result.status_code, result.json()["error"]) == (409, job["error"])


def test_jobs_run_one_by_one_can_be_stopped_and_are_limited(client, photo, monkeypatch):
    engine = client.app.state.server.engine
    derain_frame = engine.derain_frame
    monkeypatch.setattr(engine, "derain_frame", lambda *args: (time.sleep(0.1), derain_frame(*args))[1])
    data = clip(photo, 40)
    names = [client.post("/v1/video", content=data).json()["id"] for _ in range(3)]
    assert wait_for_state(client, names[0], "working")["state"] == "working"
    assert client.get(f"/v1/jobs/{names[1]}").json()["state"] == "waiting"
    assert client.get(f"/v1/jobs/{names[1]}/result").status_code == 409
    full = client.post("/v1/video", content=data)
    assert (full.status_code, "retry-after" in full.headers) == (429, True)
    # An image is served in between.
    image = images.encode(images.Picture(photo[:32, :32].astype(np.float32) / 255), "PNG")
    assert client.post("/v1/derain", content=image).status_code == 200
    assert client.get(f"/v1/jobs/{names[0]}").json()["state"] == "working"
    for name in names:
        assert client.delete(f"/v1/jobs/{name}").status_code == 204
    for _ in range(200):
        if not folders(client):
            break
        time.sleep(0.05)
    assert folders(client) == []
    assert client.get(f"/v1/jobs/{names[0]}").status_code == 404


def test_results_expire_and_all_files_are_removed_at_the_stop(small_weight, photo):
    settings = Settings(**LIMITS, model=str(small_weight), keep_seconds=1.0)
    with TestClient(create_app(settings)) as client:
        response = client.post("/v1/video", content=clip(photo))
        wait_for_state(client, response.json()["id"], "done")
        for _ in range(200):
            if not folders(client):
                break
            time.sleep(0.05)
        assert folders(client) == []  # without any request in the meantime
        assert client.get(f"/v1/jobs/{response.json()['id']}").status_code == 404
        client.post("/v1/video", content=clip(photo, 50))
        folder = client.app.state.server.jobs._folder
        assert folder.exists()
    assert not folder.exists()


def test_jobs_require_the_token_and_a_single_worker(small_weight, photo):
    settings = Settings(**LIMITS, model=str(small_weight), token="secret", video=False)
    with TestClient(create_app(settings)) as client:
        for method, path in (("post", "/v1/video"), ("get", "/v1/jobs/x"), ("delete", "/v1/jobs/x")):
            assert getattr(client, method)(path).status_code == 401
        response = client.post("/v1/video", content=clip(photo), headers={"Authorization": "Bearer secret"})
        assert (response.status_code, "--workers" in response.json()["error"]) == (501, True)
