"""The server's video jobs."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server's extra is not installed")
av = pytest.importorskip("av")
from fastapi.testclient import TestClient  # noqa: E402

from derain.server.app import create_app  # noqa: E402
from derain.server.settings import Settings  # noqa: E402

SMALL = Settings(max_pixels=40_000, max_bytes=100_000, max_jobs=3, max_frames=60, timeout=30)


def clip(photo: np.ndarray, frames: int = 6, size: tuple[int, int] = (96, 64)) -> bytes:
    """An MP4 of a pan with sound."""
    import io

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
    with TestClient(create_app(dataclasses.replace(SMALL, model=str(small_weight)))) as client:
        yield client


@pytest.fixture(autouse=True)
def none_left(client):
    yield
    for name in list(client.app.state.videos._jobs):
        client.delete(f"/v1/jobs/{name}")


def until(client: TestClient, name: str, state: str) -> dict:
    for _ in range(1200):
        told = client.get(f"/v1/jobs/{name}").json()
        if told["state"] in (state, "failed", "done"):
            break
        time.sleep(0.05)
    assert told["state"] == state, told
    return told


def folders(client: TestClient) -> list[Path]:
    folder = client.app.state.videos._folder
    return sorted(folder.iterdir()) if folder is not None else []


def test_a_clip_goes_in_and_comes_out_as_the_command_writes_it(client, command, photo, tmp_path):
    data = clip(photo)
    answer = client.post("/v1/video", content=data)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{told['id']}"
    told = until(client, told["id"], "done")
    assert (told["frames_done"], told["frames"], told["notes"]) == (6, 6, [])
    assert 3500 < told["removed_in"] <= 3600
    result = client.get(told["result"])
    assert result.headers["content-type"] == "video/mp4"
    assert "derained.mp4" in result.headers["content-disposition"]
    (tmp_path / "clip.mp4").write_bytes(data)
    assert command("run", tmp_path / "clip.mp4", "-o", tmp_path / "dry.mp4")[0] == 0
    assert result.content == (tmp_path / "dry.mp4").read_bytes()
    assert [p.name for p in folders(client)[0].iterdir()] == ["derained.mp4"]  # the upload is gone
    assert client.delete(f"/v1/jobs/{told['id']}").status_code == 204
    assert client.get(told["result"]).status_code == 404
    assert folders(client) == []


def test_multipart_format_and_choices(client, photo):
    data = clip(photo)
    answer = client.post(
        "/v1/video", params={"format": "mkv", "crf": 40, "frame_by_frame": True}, files={"file": ("../../x", data)}
    )
    told = until(client, answer.json()["id"], "done")
    result = client.get(told["result"])
    assert result.content[:4] == b"\x1aE\xdf\xa3"
    assert result.headers["content-type"] == "video/x-matroska"
    for wrong in ({"format": "exe"}, {"crf": 99}, {"model": "no such"}, {"model": "/etc/passwd"}):
        assert client.post("/v1/video", params=wrong, content=data).status_code == 422


def test_what_is_no_clip_is_refused_before_it_waits(client, photo):
    (concat, playlist) = (b"ffconcat version 1.0\nfile /etc/hostname\n", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    for data in (b"", b"rubbish" * 50, concat, playlist, clip(photo)[:600]):
        answer = client.post("/v1/video", content=data)
        assert answer.status_code == 415, data[:20]
        message = answer.json()["error"]
        assert "/" not in message.replace("/openapi", "")
        assert "\n" not in message
    large = client.post("/v1/video", content=clip(photo, 2, (256, 176)))
    assert (large.status_code, "megapixels" in large.json()["error"]) == (413, True)
    assert client.post("/v1/video", content=bytes(900_000)).status_code == 413
    assert folders(client) == []


def test_too_many_frames_fail_with_a_reason(client, photo):
    answer = client.post("/v1/video", content=clip(photo, 61))
    told = until(client, answer.json()["id"], "failed")
    assert "61 frames, more than 60" in told["error"]
    result = client.get(f"/v1/jobs/{told['id']}/result")
    assert (result.status_code, result.json()["error"]) == (409, told["error"])


def test_jobs_wait_for_each_other_stop_and_are_bounded(client, photo, monkeypatch):
    engine = client.app.state.engine
    whole = engine.frame
    monkeypatch.setattr(engine, "frame", lambda pixels, model: (time.sleep(0.1), whole(pixels, model))[1])
    data = clip(photo, 40)
    names = [client.post("/v1/video", content=data).json()["id"] for _ in range(3)]
    assert until(client, names[0], "working")["state"] == "working"
    assert client.get(f"/v1/jobs/{names[1]}").json()["state"] == "waiting"
    assert client.get(f"/v1/jobs/{names[1]}/result").status_code == 409
    full = client.post("/v1/video", content=data)
    assert (full.status_code, "retry-after" in full.headers) == (429, True)
    # A picture is served in between.
    from derain import images

    picture = images.encode(images.Picture(photo[:32, :32].astype(np.float32) / 255), "PNG")
    assert client.post("/v1/derain", content=picture).status_code == 200
    assert client.get(f"/v1/jobs/{names[0]}").json()["state"] == "working"
    for name in names:
        assert client.delete(f"/v1/jobs/{name}").status_code == 204
    for _ in range(200):
        if not folders(client):
            break
        time.sleep(0.05)
    assert folders(client) == []
    assert client.get(f"/v1/jobs/{names[0]}").status_code == 404


def test_results_are_removed_after_their_time_and_all_at_the_stop(small_weight, photo):
    settings = dataclasses.replace(SMALL, model=str(small_weight), keep_seconds=1.0)
    with TestClient(create_app(settings)) as client:
        answer = client.post("/v1/video", content=clip(photo))
        until(client, answer.json()["id"], "done")
        for _ in range(200):
            if not folders(client):
                break
            time.sleep(0.05)
        assert folders(client) == []  # nobody asked in the meantime
        assert client.get(f"/v1/jobs/{answer.json()['id']}").status_code == 404
        client.post("/v1/video", content=clip(photo, 50))
        folder = client.app.state.videos._folder
        assert folder.exists()
    assert not folder.exists()


def test_the_token_guards_jobs_and_several_workers_have_none(small_weight, photo):
    settings = dataclasses.replace(SMALL, model=str(small_weight), token="secret", video=False)
    with TestClient(create_app(settings)) as client:
        for method, path in (("post", "/v1/video"), ("get", "/v1/jobs/x"), ("delete", "/v1/jobs/x")):
            assert getattr(client, method)(path).status_code == 401
        answer = client.post("/v1/video", content=clip(photo), headers={"Authorization": "Bearer secret"})
        assert (answer.status_code, "--workers" in answer.json()["error"]) == (501, True)
