"""Rain2Avoid's backbones: what their papers compute, and their official checkpoints."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from derain import create_model
from derain.models.drsformer import Mixture, SparseAttention
from derain.models.restormer import ChannelAttention, PixelNorm
from derain.weights.official import convert_official, import_checkpoint, recognize


def literal_attention(module: ChannelAttention, x: torch.Tensor, shares: list[tuple[float, float]]) -> torch.Tensor:
    """Channel attention with loops over heads and channels; ``shares`` are (share kept, weight)."""
    q, k, v = module.qkv_dwconv(module.qkv(x))[0].flatten(1).chunk(3)
    heads = len(module.temperature)
    size = len(q) // heads
    mixed = torch.zeros_like(v)
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        for i in range(size):
            query = q[rows][i] / q[rows][i].norm()
            scores = torch.stack([query @ (key / key.norm()) for key in k[rows]]) * module.temperature[head, 0, 0]
            for share, weight in shares:
                best = scores.topk(int(size * share)).indices
                for j, p in zip(best, scores[best].softmax(0), strict=True):
                    mixed[head * size + i] += weight * p * v[rows][j]
    return module.project_out(mixed.view(1, -1, *x.shape[2:]))


@pytest.mark.parametrize(
    ("kind", "shares"),
    [(ChannelAttention, [(1, 1)]), (SparseAttention, [(1 / 2, 0.2), (2 / 3 + 1e-9, 0.2), (3 / 4, 0.2), (4 / 5, 0.2)])],
)
def test_attention_is_what_a_literal_loop_gives(kind, shares):
    torch.manual_seed(0)
    module = kind(24, 2, bias=True)
    module.temperature.data.copy_(torch.tensor([1.5, 4.0]).view(2, 1, 1))
    x = torch.randn(1, 24, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(module(x), literal_attention(module, x, shares), rtol=1e-4, atol=1e-5)


def test_pixel_norm_is_layer_norm_over_channels():
    x = torch.randn(2, 6, 3, 4) * 3 + 1
    norm = PixelNorm(6)
    torch.nn.init.normal_(norm.body.weight)
    torch.nn.init.normal_(norm.body.bias)
    expected = F.layer_norm(x.movedim(1, -1), (6,), norm.body.weight, norm.body.bias).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(PixelNorm(6, bias=False)(x), x / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt())


def test_mixture_weights_belong_to_their_operations():
    """With the weights' last layer forced to one operation, only that one's convolutions matter."""
    torch.manual_seed(0)
    mixture = Mixture(4, steps=1).eval()
    scores = mixture.layers[0].ca_fc[2]
    torch.nn.init.zeros_(scores.weight)
    scores.bias.data.fill_(-1e4)
    scores.bias.data[5] = 0  # the dilated 5×5
    x = torch.rand(1, 4, 12, 12)
    step = mixture.layers[1]._ops[0]
    with torch.no_grad():
        prepared = mixture.layers[1].preprocess(x)
        depth, point = (step._ops[5].op[i].weight for i in (0, 1))
        alone = F.conv2d(F.conv2d(prepared, depth, padding=4, dilation=2, groups=4), point)
        expected = (F.conv2d(alone, step._out[0].weight[:, 20:24]).relu() + prepared).relu()
        torch.testing.assert_close(mixture(x), expected)


# Names and shapes as the official checkpoints have them.
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
def test_official_checkpoints_fit_name_by_name(name):
    network = create_model(name, **({"dim": 48} if name == "drsformer" else {}))
    state = network.state_dict()
    assert {key: tuple(state[key].shape) for key in OFFICIAL[name]} == OFFICIAL[name]
    found, settings = recognize(state)
    assert found == name
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
def test_settings_are_read_from_the_keys(name, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    network = create_model(name, **settings).eval()
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")  # as BasicSR wraps them
    made = import_checkpoint(tmp_path / "net.pth")
    assert (made.model, made.settings) == (name, settings)


def test_an_official_resnet_is_taken_once_and_without_its_classifier():
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
    for mine, theirs in zip(loaded.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_dual_pixel_restormer_is_not_taken_for_a_deraining_one():
    state = create_model("restormer", dim=8, num_blocks=(1, 1, 1, 1)).state_dict()
    from derain.models.restormer import Restormer

    assert Restormer.official_settings(state) is not None
    assert Restormer.official_settings({**state, "skip_conv.weight": torch.zeros(1)}) is None


def test_levels_that_cannot_be_are_told():
    from derain.errors import ModelError

    with pytest.raises(ModelError, match="four entries"):
        create_model("restormer", heads=(1, 2, 4))
    with pytest.raises(ModelError, match="divide"):
        create_model("drsformer", dim=9, heads=(2, 2, 4, 8))
