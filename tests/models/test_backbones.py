"""Rain2Avoid's backbones: agreement with straightforward implementations, and official checkpoints."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derain import create_model
from derain.errors import ModelError
from derain.models.drsformer import Mixture, SparseAttention
from derain.models.restormer import ChannelAttention, PixelNorm, Restormer
from derain.weights.official import convert_official, import_checkpoint, recognize


def loop_attention(module: ChannelAttention, x: torch.Tensor, fractions: list[tuple[float, float]]) -> torch.Tensor:
    """Channel attention with loops over heads and channels; ``fractions`` are (top fraction, weight)."""
    q, k, v = module.qkv_dwconv(module.qkv(x))[0].flatten(1).chunk(3)
    heads = len(module.temperature)
    size = len(q) // heads
    mixed = torch.zeros_like(v)
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        for i in range(size):
            query = q[rows][i] / q[rows][i].norm()
            scores = torch.stack([query @ (key / key.norm()) for key in k[rows]]) * module.temperature[head, 0, 0]
            for fraction, weight in fractions:
                top = scores.topk(int(size * fraction)).indices
                for j, p in zip(top, scores[top].softmax(0), strict=True):
                    mixed[head * size + i] += weight * p * v[rows][j]
    return module.project_out(mixed.view(1, -1, *x.shape[2:]))


@pytest.mark.parametrize(
    ("attention_class", "fractions"),
    [(ChannelAttention, [(1, 1)]), (SparseAttention, [(1 / 2, 0.2), (2 / 3 + 1e-9, 0.2), (3 / 4, 0.2), (4 / 5, 0.2)])],
)
def test_attention_agrees_with_a_loop(attention_class, fractions):
    torch.manual_seed(0)
    module = attention_class(24, 2, bias=True)
    module.temperature.data.copy_(torch.tensor([1.5, 4.0]).view(2, 1, 1))
    x = torch.randn(1, 24, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(module(x), loop_attention(module, x, fractions), rtol=1e-4, atol=1e-5)


def test_pixel_norm_is_layer_norm_over_channels():
    x = torch.randn(2, 6, 3, 4) * 3 + 1
    norm = PixelNorm(6)
    torch.nn.init.normal_(norm.body.weight)
    torch.nn.init.normal_(norm.body.bias)
    expected = F.layer_norm(x.movedim(1, -1), (6,), norm.body.weight, norm.body.bias).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(PixelNorm(6, bias=False)(x), x / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt())


def test_mixture_weights_apply_to_their_operations():
    """With all weight on one operation, the output depends on the convolutions of that one only."""
    torch.manual_seed(0)
    mixture = Mixture(4, steps=1).eval()
    scores = mixture.layers[0].ca_fc[2]
    torch.nn.init.zeros_(scores.weight)
    scores.bias.data.fill_(-1e4)
    scores.bias.data[5] = 0  # the dilated 5×5
    x = torch.rand(1, 4, 12, 12)
    layer = mixture.layers[1]._ops[0]
    with torch.no_grad():
        prepared = mixture.layers[1].preprocess(x)
        depthwise, pointwise = (layer._ops[5].op[i].weight for i in (0, 1))
        operation = F.conv2d(F.conv2d(prepared, depthwise, padding=4, dilation=2, groups=4), pointwise)
        expected = (F.conv2d(operation, layer._out[0].weight[:, 20:24]).relu() + prepared).relu()
        torch.testing.assert_close(mixture(x), expected)


# Key names and shapes of the official checkpoints.
OFFICIAL = {
    "restormer": {
        "patch_embed.proj.weight": (48, 3, 3, 3),
        "encoder_level1.0.norm1.body.weight": (48,),
        "encoder_level1.0.norm1.body.bias": (48,),
        "encoder_level1.3.attn.temperature": (1, 1, 1),
        "encoder_level2.5.attn.qkv.weight": (288, 96, 1, 1),
        "encoder_level2.5.attn.qkv_dwconv.weight": (288, 1, 3, 3),
        "encoder_level3.0.ffn.project_in.weight": (1020, 192, 1, 1),
        "encoder_level3.0.ffn.dwconv.weight": (1020, 1, 3, 3),
        "latent.7.ffn.project_out.weight": (384, 1021, 1, 1),
        "down1_2.body.0.weight": (24, 48, 3, 3),
        "up4_3.body.0.weight": (768, 384, 3, 3),
        "reduce_chan_level3.weight": (192, 384, 1, 1),
        "decoder_level1.3.attn.project_out.weight": (96, 96, 1, 1),
        "refinement.3.attn.temperature": (1, 1, 1),
        "output.weight": (3, 96, 3, 3),
    },
    "drsformer": {
        "patch_embed.proj.weight": (48, 3, 3, 3),
        "encoder_level0.layers.0.ca_fc.0.weight": (64, 48),
        "encoder_level0.layers.0.ca_fc.2.bias": (32,),
        "encoder_level0.layers.1.preprocess.op.0.weight": (48, 48, 1, 1),
        "encoder_level0.layers.1._ops.0._ops.3.op.3.weight": (48, 1, 7, 7),
        "encoder_level0.layers.1._ops.3._ops.6.op.1.weight": (48, 48, 1, 1),
        "encoder_level0.layers.1._ops.3._out.0.weight": (48, 384, 1, 1),
        "encoder_level1.0.attn.attn4": (1,),
        "encoder_level1.0.ffn.dwconv5x5_1.weight": (127, 2, 5, 5),
        "refinement.layers.1._ops.0._ops.0.op.4.weight": (96, 96, 1, 1),
    },
    "unet": {
        "enc_1.conv.weight": (64, 3, 7, 7),
        "enc_4.bn.running_var": (512,),
        "dec_4.conv.weight": (256, 768, 3, 3),
        "dec_1.conv.bias": (3,),
    },
    "dncnn": {"dncnn.0.weight": (64, 3, 3, 3), "dncnn.3.running_mean": (64,), "dncnn.47.weight": (3, 64, 3, 3)},
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_key_names_and_shapes_match_official_checkpoints(name):
    network = create_model(name, **({"dim": 48} if name == "drsformer" else {}))
    state = network.state_dict()
    assert {key: tuple(state[key].shape) for key in OFFICIAL[name]} == OFFICIAL[name]
    recognized, settings = recognize(state)
    assert recognized == name
    create_model(name, **settings).load_state_dict(convert_official(name, state))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("restormer", {"dim": 16, "num_blocks": (1, 2, 1, 1), "refinement_blocks": 2}),
        ("restormer", {"dim": 16, "num_blocks": (1, 1, 1, 1), "norm_bias": False, "refinement_blocks": 1}),
        ("restormer", {"dim": 8, "num_blocks": (1, 1, 1, 1), "heads": (2, 2, 4, 4), "bias": True}),
        ("drsformer", {"dim": 16, "num_blocks": (1, 1, 1, 1), "mixture": False}),
        ("drsformer", {"dim": 16, "num_blocks": (1, 1, 2, 1)}),
        ("dncnn", {"depth": 5, "channels": 16}),
    ],
)
def test_settings_are_inferred_from_the_state(name, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    network = create_model(name, **settings).eval()
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")  # as BasicSR saves it
    imported = import_checkpoint(tmp_path / "net.pth")
    assert (imported.model, imported.settings) == (name, settings)


def test_official_resnet_is_imported_without_duplicates_and_classifier():
    network = create_model("resnet")
    torch.manual_seed(0)
    for value in network.parameters():
        torch.nn.init.normal_(value)
    official = {}
    for key, value in network.state_dict().items():
        if key.startswith("up."):
            number, rest = key.removeprefix("up.").split(".")
            official[f"up{int(number) + 1}.main.0.{rest}"] = value
        else:
            official[f"resnet18.{key}"] = value
            official[f"resnet.0.{key}"] = torch.zeros(1)
            official[f"down1.{key}"] = torch.zeros(1)
    official["resnet18.fc.weight"] = torch.zeros(1000, 512)
    assert recognize(official) == ("resnet", {})
    loaded = create_model("resnet")
    loaded.load_state_dict(convert_official("resnet", official))
    for actual, expected in zip(loaded.parameters(), network.parameters(), strict=True):
        assert torch.equal(actual, expected)


def test_dual_pixel_restormer_is_not_recognized():
    state = create_model("restormer", dim=8, num_blocks=(1, 1, 1, 1)).state_dict()
    assert Restormer.official_settings(state) is not None
    assert Restormer.official_settings({**state, "skip_conv.weight": torch.zeros(1)}) is None


def test_impossible_levels_are_rejected():
    with pytest.raises(ModelError, match="four entries"):
        create_model("restormer", heads=(1, 2, 4))
    with pytest.raises(ModelError, match="divide"):
        create_model("drsformer", dim=9, heads=(2, 2, 4, 8))
