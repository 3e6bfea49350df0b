"""Settings reach worker processes through the environment."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from derain.server.settings import Settings

VARIABLE = "DERAIN_SERVE_SETTINGS"


@pytest.mark.parametrize("tile", ["auto", "off", 256])
def test_round_trip_through_the_environment(monkeypatch, tile):
    monkeypatch.setenv(VARIABLE, "{}")
    settings = Settings(model="a/b.safetensors", tile=tile, token='s"é', timeout=1.5, video=False)
    settings.to_environment()
    assert Settings.from_environment() == settings


def test_defaults_without_the_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Settings.from_environment() == Settings()


def test_only_that_variable_is_read(monkeypatch):
    for name in ("MODEL", "TOKEN", "DERAIN_SERVE_TOKEN", "DERAIN_SERVE_MODEL"):
        monkeypatch.setenv(name, "x")
    assert Settings.from_environment() == Settings()


def test_derived_limits():
    settings = Settings(max_bytes=200 * 2**20, upload_seconds=5)
    assert settings.max_batch_bytes == 1600 * 2**20
    assert settings.upload_memory == 400 * 2**20
    assert settings.batch_upload_seconds == 20
    assert Settings().upload_memory == 256 * 2**20


def test_settings_cannot_be_changed_or_misspelled_and_hide_the_token():
    settings = Settings(token="secret")
    with pytest.raises(ValidationError):
        settings.token = "other"
    with pytest.raises(ValidationError):
        Settings(tokn="secret")
    with pytest.raises(ValidationError):
        Settings(token="")
    assert "secret" not in repr(settings)
