"""``derain models``: the list and the cards."""

from __future__ import annotations

import json
from pathlib import Path


def test_models_lists_everything(command):
    code, out, _ = command("models")
    assert code == 0
    for word in ("default", "license", "trained on", "measured"):
        assert word in out
    listing = json.loads(command("models", "--json")[1])
    assert listing[0]["aliases"] == ["default"]


def test_a_models_card_says_what_the_manifest_knows(command):
    code, out, _ = command("models", "--card", "default")
    assert code == 0
    for weight in json.loads(command("models", "--json")[1]):
        card = command("models", "--card", weight["name"])[1]
        texts = [weight["summary"], weight["data"], weight["recipe"], weight["license"], weight["sha256"]]
        assert all(text in card for text in [*texts, *weight["limits"], *weight["figures"]])
        # The page in the documentation is the same text.
        page = (Path(__file__).parents[2] / "docs/guide/models.md").read_text(encoding="utf-8")
        assert card.replace("# ", "## ").strip() in page, "run python scripts/make_cards.py"
    assert json.loads(command("models", "--json")[1])[0]["name"] in out
    assert "settings: channels 24, units 8, scales 4" in command("models", "--card", "jdnet-s")[1]
    assert "unknown model" in command("models", "--card", "nobody")[2]
