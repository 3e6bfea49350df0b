"""``/v1/models``, ``/healthz``, ``/metrics`` and the OpenAPI document."""

from __future__ import annotations

import json

from derain.weights import manifest
from support.server import MAX_PIXELS, UPLOAD


def test_models_licenses_and_limits(client, small_weight):
    description = client.get("/v1/models").json()
    models = {model["name"]: model for model in description["models"]}
    assert description["default"] == next(iter(models)) == small_weight.stem
    assert set(manifest().models) <= set(models)
    for name, entry in manifest().models.items():
        assert models[name]["license"] == entry.license
    for alias, name in manifest().aliases.items():
        assert models[alias]["alias_of"] == name
        assert models[alias]["license"] == models[name]["license"]
    assert description["limits"]["max_pixels"] == MAX_PIXELS
    assert str(small_weight.parent) not in json.dumps(description)  # no paths of this machine


def test_health(client):
    assert client.get("/healthz").json()["status"] == "ok"


def test_metrics(client, image_files):
    client.post(UPLOAD, content=image_files["png"])
    response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    assert values['derain_requests_total{route="/v1/derain",status="200"}'] >= 1
    assert values['derain_work_seconds_bucket{le="+Inf"}'] == values["derain_work_seconds_count"] >= 1
    assert values["derain_pixels_total"] >= 64 * 80
    assert values["derain_queue_length"] == values["derain_pictures_in_work"] == 0
    assert values["derain_cancelled_total"] == 0
    assert values["process_resident_memory_bytes"] > 10_000_000
    assert not [name for name in values if "_created" in name]


def test_openapi_describes_both_kinds_of_body(client):
    description = client.get("/openapi.json").json()
    body = description["paths"]["/v1/derain"]["post"]["requestBody"]["content"]
    assert body.keys() == {"multipart/form-data", "application/octet-stream"}


def test_openapi_lists_the_parameters_in_the_query_and_in_the_form(client):
    paths = client.get("/openapi.json").json()["paths"]
    image = {"model", "strength", "format", "quality"}
    for path, names in {
        "/v1/derain": image,
        "/v1/derain/batch": image,
        "/v1/video": {"model", "format", "crf", "frame_by_frame"},
    }.items():
        entry = paths[path]["post"]
        assert {parameter["name"] for parameter in entry["parameters"]} == names
        assert {parameter["in"] for parameter in entry["parameters"]} == {"query"}
        form = entry["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["properties"].keys() == names | {"file"}
        assert form["required"] == ["file"]
