"""MPRNet: agreement with a direct implementation on an official state dictionary, and its import."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derain import create_model
from derain.errors import ModelError
from derain.weights.official import convert_official, import_checkpoint, recognize

SMALL = {"channels": 8, "unet_growth": 4, "full_growth": 2, "blocks": 2}
# Names and shapes of the official deraining checkpoint.
OFFICIAL = {
    "shallow_feat1.0.weight": (40, 3, 3, 3),
    "shallow_feat2.1.CA.conv_du.0.weight": (10, 40, 1, 1),
    "shallow_feat3.1.body.2.weight": (40, 40, 3, 3),
    "stage1_encoder.encoder_level2.1.CA.conv_du.2.weight": (60, 15, 1, 1),
    "stage1_encoder.down12.down.1.weight": (60, 40, 1, 1),
    "stage1_encoder.down23.down.1.weight": (80, 60, 1, 1),
    "stage1_decoder.decoder_level3.0.body.0.weight": (80, 80, 3, 3),
    "stage1_decoder.skip_attn2.body.0.weight": (60, 60, 3, 3),
    "stage1_decoder.up21.up.1.weight": (40, 60, 1, 1),
    "stage2_encoder.csff_enc3.weight": (80, 80, 1, 1),
    "stage2_encoder.csff_dec1.weight": (40, 40, 1, 1),
    "stage2_decoder.up32.up.1.weight": (60, 80, 1, 1),
    "stage3_orsnet.orb1.body.7.CA.conv_du.0.weight": (14, 56, 1, 1),
    "stage3_orsnet.orb3.body.8.weight": (56, 56, 3, 3),
    "stage3_orsnet.up_enc1.up.1.weight": (40, 60, 1, 1),
    "stage3_orsnet.up_dec2.0.up.1.weight": (60, 80, 1, 1),
    "stage3_orsnet.up_dec2.1.up.1.weight": (40, 60, 1, 1),
    "stage3_orsnet.conv_enc3.weight": (56, 40, 1, 1),
    "sam12.conv1.weight": (40, 40, 1, 1),
    "sam12.conv2.weight": (3, 40, 1, 1),
    "sam23.conv3.weight": (40, 3, 1, 1),
    "concat12.weight": (40, 80, 3, 3),
    "concat23.weight": (56, 80, 3, 3),
    "tail.weight": (3, 56, 3, 3),
}


def official(network: torch.nn.Module, slope: float = 0.3) -> dict[str, torch.Tensor]:
    """The state dictionary in official names: each block repeats the slope that all share."""
    state = {key: value for key, value in network.state_dict().items() if key != "slope"}
    blocks = [key.removesuffix("CA.conv_du.0.weight") for key in state if key.endswith("CA.conv_du.0.weight")]
    return state | {
        f"{block}body.1.weight": torch.tensor([slope], dtype=state["tail.weight"].dtype) for block in blocks
    }


class Direct:
    """The network written out on the official names, quarter by quarter and half by half."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def conv(self, key: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.state[f"{key}.weight"]
        return F.conv2d(x, weight, padding=weight.shape[2] // 2)

    def cab(self, key: str, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv(f"{key}.body.0", x)
        inner = torch.where(inner > 0, inner, self.state[f"{key}.body.1.weight"] * inner)
        inner = self.conv(f"{key}.body.2", inner)
        gate = self.conv(f"{key}.CA.conv_du.0", inner.mean((2, 3), keepdim=True)).relu()
        return x + inner * self.conv(f"{key}.CA.conv_du.2", gate).sigmoid()

    def resized(self, key: str, x: torch.Tensor, scale: float) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False)
        return self.conv(f"{key}.1", x)

    def level(self, key: str, x: torch.Tensor) -> torch.Tensor:
        return self.cab(f"{key}.1", self.cab(f"{key}.0", x))

    def stem(self, key: str, image: torch.Tensor) -> torch.Tensor:
        return self.cab(f"{key}.1", self.conv(f"{key}.0", image))

    def encode(self, key: str, x: torch.Tensor, previous=None) -> list[torch.Tensor]:
        levels = []
        for n, down in ((1, None), (2, "down12"), (3, "down23")):
            if down:
                x = self.resized(f"{key}.{down}.down", x, 0.5)
            x = self.level(f"{key}.encoder_level{n}", x)
            if previous:
                for part, features in zip(("enc", "dec"), previous, strict=True):
                    x = x + self.conv(f"{key}.csff_{part}{n}", features[n - 1])
            levels.append(x)
        return levels

    def decode(self, key: str, encoded: list[torch.Tensor]) -> list[torch.Tensor]:
        third = self.level(f"{key}.decoder_level3", encoded[2])
        second = self.resized(f"{key}.up32.up", third, 2) + self.cab(f"{key}.skip_attn2", encoded[1])
        second = self.level(f"{key}.decoder_level2", second)
        first = self.resized(f"{key}.up21.up", second, 2) + self.cab(f"{key}.skip_attn1", encoded[0])
        return [self.level(f"{key}.decoder_level1", first), second, third]

    def sam(self, key: str, x: torch.Tensor, rainy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.conv(f"{key}.conv2", x) + rainy
        return self.conv(f"{key}.conv1", x) * self.conv(f"{key}.conv3", image).sigmoid() + x, image

    def __call__(self, rainy: torch.Tensor) -> list[torch.Tensor]:
        height, width = rainy.shape[2] // 2, rainy.shape[3] // 2
        halves = [rainy[:, :, :height], rainy[:, :, height:]]
        firsts, gated, encoded_halves, decoded_halves = [], [], [], []
        for half in halves:
            quarters = (half[..., :width], half[..., width:])
            left, right = (self.encode("stage1_encoder", self.stem("shallow_feat1", q)) for q in quarters)
            encoded = [torch.cat(pair, dim=3) for pair in zip(left, right, strict=True)]
            decoded = self.decode("stage1_decoder", encoded)
            features, image = self.sam("sam12", decoded[0], half)
            firsts.append(image)
            gated.append(features)
            encoded_halves.append(encoded)
            decoded_halves.append(decoded)
        lower = []
        for half, features, *previous in zip(halves, gated, encoded_halves, decoded_halves, strict=True):
            joined = torch.cat([self.stem("shallow_feat2", half), features], dim=1)
            lower.append(self.encode("stage2_encoder", self.conv("concat12", joined), previous))
        encoded = [torch.cat(pair, dim=2) for pair in zip(*lower, strict=True)]
        decoded = self.decode("stage2_decoder", encoded)
        features, second = self.sam("sam23", decoded[0], rainy)
        x = self.conv("concat23", torch.cat([self.stem("shallow_feat3", rainy), features], dim=1))
        net = "stage3_orsnet"
        for n in (1, 2, 3):
            inner, blocks = x, sum(f"{net}.orb{n}.body.{k}.CA.conv_du.0.weight" in self.state for k in range(20))
            for k in range(blocks):
                inner = self.cab(f"{net}.orb{n}.body.{k}", inner)
            x = x + self.conv(f"{net}.orb{n}.body.{blocks}", inner)
            for part, levels in (("enc", encoded), ("dec", decoded)):
                added = levels[n - 1]
                if n == 2:
                    added = self.resized(f"{net}.up_{part}1.up", added, 2)
                if n == 3:
                    added = self.resized(f"{net}.up_{part}2.0.up", added, 2)
                    added = self.resized(f"{net}.up_{part}2.1.up", added, 2)
                x = x + self.conv(f"{net}.conv_{part}{n}", added)
        return [torch.cat(firsts, dim=2), second, self.conv("tail", x) + rainy]


def test_stages_agree_with_a_direct_implementation():
    torch.manual_seed(0)
    state = official(create_model("mprnet", **SMALL).double())
    name, settings = recognize(state)
    assert (name, settings) == ("mprnet", SMALL)
    network = create_model(name, **settings).double().eval()
    network.load_state_dict(convert_official(name, state))
    rainy = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    with torch.inference_mode():
        stages, expected = network.stages(rainy), Direct(state)(rainy)
        torch.testing.assert_close(network(rainy), expected[2], rtol=0, atol=1e-10)
    for stage, image in zip(stages.values(), expected, strict=True):
        torch.testing.assert_close(stage, image, rtol=0, atol=1e-10)


def test_names_and_shapes_are_those_of_the_official_checkpoint():
    with torch.device("meta"):
        state = create_model("mprnet").state_dict()
    assert {key: tuple(state[key].shape) for key in OFFICIAL} == OFFICIAL


@pytest.mark.parametrize(("channels", "millions"), [(40, 3.6), (80, 15.7), (96, 20.1)])
def test_sizes_of_the_official_checkpoints(channels, millions):
    """Deraining, denoising and deblurring, as published."""
    wider = {"channels": channels, "unet_growth": 48, "full_growth": 32} if channels > 40 else {}
    with torch.device("meta"):
        network = create_model("mprnet", **wider)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


def test_import_keeps_one_slope(tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    state = official(create_model("mprnet", **SMALL), slope=0.4)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "model.pth")
    imported = import_checkpoint(tmp_path / "model.pth")
    assert (imported.model, imported.settings) == ("mprnet", SMALL)
    assert convert_official("mprnet", state)["slope"].item() == pytest.approx(0.4)
    state["shallow_feat1.1.body.1.weight"] = torch.tensor([0.1])
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match="slope"):
        import_checkpoint(tmp_path / "odd.pth")
