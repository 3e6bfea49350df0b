"""The bearer token, pages of other origins, and headers for browsers."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from derain.server.app import create_app
from support.server import UPLOAD, small_settings


@pytest.fixture(scope="module")
def guarded(small_weight):
    with TestClient(create_app(small_settings(small_weight, token="secret"))) as client:
        yield client


@pytest.mark.parametrize(
    "authorization",
    [None, "secret", "Bearer", "Bearer ", "Bearer wrong", "Basic secret", "Bearer sécret".encode("latin-1")],
)
def test_requests_without_the_token_get_401(guarded, image_files, authorization):
    headers = {} if authorization is None else {"authorization": authorization}
    for response in (
        guarded.post(UPLOAD, content=image_files["png"], headers=headers),
        guarded.post(f"{UPLOAD}/batch", content=b"", headers=headers),
        guarded.post("/v1/video", content=b"", headers=headers),
        guarded.get("/v1/jobs/x", headers=headers),
        guarded.get("/v1/models", headers=headers),
        guarded.get("/metrics", headers=headers),
    ):
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert "token" in response.json()["error"]


def test_the_token_is_checked_before_the_parameters(guarded):
    assert guarded.post(UPLOAD, params={"strength": 9}).status_code == 401


@pytest.mark.parametrize("authorization", ["Bearer secret", "bearer secret", "Bearer  secret"])
def test_requests_with_the_token_pass(guarded, image_files, authorization):
    headers = {"authorization": authorization}
    assert guarded.post(UPLOAD, content=image_files["png"], headers=headers).status_code == 200


def test_page_health_and_description_need_no_token(guarded):
    for path in ("/", "/static/page.js", "/healthz", "/openapi.json"):
        assert guarded.get(path).status_code == 200


def test_openapi_names_the_scheme_where_it_is_required(client):
    description = client.get("/openapi.json").json()
    assert description["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    open_paths = {
        path for path, methods in description["paths"].items() for entry in methods.values() if "security" not in entry
    }
    assert open_paths == {"/healthz"}


def test_pages_of_other_origins_get_403(client, image_files):
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        response = client.post(UPLOAD, content=image_files["png"], headers={"sec-fetch-site": site})
        assert response.status_code == status


def test_every_response_has_the_security_headers(client):
    for path in ("/", "/healthz", "/nothing", "/static/page.js"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
