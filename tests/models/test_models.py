"""Networks: common tests for all, then properties of the individual papers and checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derain import create_model
from derain.errors import ModelError
from derain.models import MODELS
from derain.models.layers import gated
from derain.weights.official import convert_official
from support.official import fake_official

PARAMETERS = {
    "prenet": 168_963,
    "sapnet": 180_483,
    "gated-unet": 4_274_916,
    "jdnet": 4_681_859,
    # FRM 946,563, SIM 77,237,149 minus 16,748,000 unused ones, and the compact segmenter.
    "sginet": 946_563 + 60_489_149 + 1_162_779,
    "unet": 4_539_988,
    "resnet": 14_511_147 - 513_000,  # the authors' count minus the unused classifier
    "dncnn": 558_336,
    "restormer": 26_126_644,
    "drsformer": 15_609_136,
    "aidnet": 412_780 - 36_992,  # the authors' count minus two blocks that never run
    "mprnet": 3_637_249,
    "rescan": 149_823,
    "nafnet": 17_111_907,
}
# Settings for small versions of the large networks, for tests that do not depend on the size.
SMALL = {
    "jdnet": {"units": 2},
    "sginet": {"width": 4},
    "restormer": {"dim": 8, "num_blocks": (1, 1, 1, 1)},
    "drsformer": {"dim": 8, "num_blocks": (1, 1, 1, 1)},
    "aidnet": {"iterations": 2},
    "mprnet": {"channels": 8, "unet_growth": 4, "full_growth": 4, "blocks": 2},
    "rescan": {"iterations": 2},
    "nafnet": {"width": 8, "encoder_blocks": (1, 1, 1, 1)},
}
# Their gradients are zero up to rounding: a value that is equal for all neighbors cancels in the softmax.
ZERO_GRADIENT = ("attend.weigh.bias", "attend.position.bias")


def small(name):
    return create_model(name, **SMALL.get(name, {}))


def at_least_minimum(name, height, width):
    """The given size, raised to the minimum of the network."""
    minimum = MODELS[name].size.minimum
    return max(height, minimum), max(width, minimum)


@pytest.mark.parametrize("name", MODELS)
class TestEveryNetwork:
    def test_parameter_count(self, name):
        with torch.device("meta"):
            assert sum(p.numel() for p in create_model(name).parameters()) == PARAMETERS[name]

    def test_output_shape_at_the_smallest_and_larger_sizes(self, name):
        rule = MODELS[name].size
        network = small(name).eval()
        for factor in (1, 3):
            side = max(rule.minimum, rule.multiple_of) * factor
            x = torch.rand(2, 3, side, side + rule.multiple_of)
            with torch.inference_mode():
                assert network(x).shape == x.shape

    def test_images_of_a_batch_are_independent(self, name):
        torch.manual_seed(0)
        network = small(name).double().eval()
        x = torch.rand(2, 3, *at_least_minimum(name, 32, 64), dtype=torch.float64)
        with torch.inference_mode():
            batched = network(x)
            separate = torch.cat([network(x[:1]), network(x[1:])])
        torch.testing.assert_close(batched, separate, rtol=1e-4, atol=1e-5)

    def test_every_parameter_gets_a_gradient(self, name):
        torch.manual_seed(0)
        network = small(name)
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.any():  # zero scales of residual branches would hide the branch
                    parameter.normal_(std=0.1)
        # Two images of side 64, so that batch norm at 1/32 of the size gets more than one value per channel.
        network(torch.rand(2, 3, 64, 64)).square().mean().backward()
        trainable = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
        without_gradient = [n for n, p in trainable if p.grad is None or not p.grad.abs().sum() > 0]
        # The two hidden units of a channel attention may both be inactive (ReLU).
        without_gradient = [n for n in without_gradient if "conv_du" not in n and not n.endswith(ZERO_GRADIENT)]
        assert without_gradient == []

    def test_output_has_the_dtype_of_the_input(self, name):
        x = torch.rand(1, 3, *at_least_minimum(name, 16, 16), dtype=torch.float64)
        assert small(name).eval().double()(x).dtype == torch.float64


def test_unknown_names_and_invalid_settings_are_rejected():
    with pytest.raises(ModelError, match="unknown network"):
        create_model("no-such-net")
    with pytest.raises(ModelError, match="sapnet"):
        create_model("sapnet", color="red")
    with pytest.raises(ModelError, match="convolution"):
        create_model("sapnet", convolution="round")
    with pytest.raises(ModelError, match="iterations"):
        create_model("prenet", iterations=0)
    with pytest.raises(ModelError, match="same length"):
        create_model("gated-unet", channels=(8, 16), blocks=(1,))


@pytest.mark.parametrize(("convolution", "count"), [("separable", 101_763), ("split", 134_403)])
def test_parameter_counts_of_sapnet_variants(convolution, count):
    assert sum(p.numel() for p in create_model("sapnet", convolution=convolution).parameters()) == count


def test_sapnet_without_attention_and_dilation_is_prenet():
    torch.manual_seed(0)
    sapnet = create_model("sapnet", attention=False, dilation=False).eval()
    prenet = create_model("prenet").eval()
    prenet.load_state_dict({key.replace(".body.3.", ".body.2."): value for key, value in sapnet.state_dict().items()})
    x = torch.rand(1, 3, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(sapnet(x), prenet(x))
        dilated = create_model("sapnet", attention=False).eval()
        dilated.load_state_dict(sapnet.state_dict())
        assert (dilated(x) - prenet(x)).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["prenet", "sapnet", "aidnet", "rescan"])
def test_last_stage_is_the_output(name):
    network = create_model(name, iterations=3).eval()
    x = torch.rand(1, 3, 20, 20)
    with torch.inference_mode():
        stages = network.stages(x)
        torch.testing.assert_close(stages[network.stage_names[-1]], network(x))
    assert len(stages) == 3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize(
    "name", ["prenet", "sapnet", "gated-unet", "jdnet", "dncnn", "aidnet", "mprnet", "rescan", "nafnet"]
)
def test_inference_equals_the_forward_with_gradients(name, dtype, bound, layout, monkeypatch):
    """Inference works in place, and the recurrent networks in strips of eight rows."""
    monkeypatch.setattr("derain.models.progressive._STRIP_BYTES", 1)
    torch.manual_seed(0)
    settings = {"iterations": 3} if name in ("prenet", "sapnet") else SMALL.get(name, {})
    network, x = create_model(name, **settings).to(dtype).eval(), torch.rand(2, 3, 32, 16, dtype=dtype)
    network.to(memory_format=layout)
    with torch.inference_mode():
        inferred = network(x.contiguous(memory_format=layout))
    torch.testing.assert_close(inferred, network(x).detach(), rtol=0, atol=bound)


@pytest.mark.parametrize("name", ["prenet", "sapnet", "gated-unet", "aidnet", "rescan"])
def test_bf16_is_close_to_fp32(name, monkeypatch):
    """Covers the fp32 computation of gates, cell and channel means, in strips."""
    monkeypatch.setattr("derain.models.progressive._STRIP_BYTES", 1)
    torch.manual_seed(0)
    settings = {"channels": [16, 32], "blocks": [1, 1]} if name == "gated-unet" else {"iterations": 3}
    network, x = create_model(name, **settings).eval(), torch.rand(2, 3, 32, 16)
    network.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        fp32 = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            bf16 = network(x)
    assert bf16.dtype == torch.float32
    assert 0 < (bf16 - fp32).abs().max() < 0.02 * fp32.abs().max()


def official_sapnet_step(state: dict[str, torch.Tensor], rainy: np.ndarray) -> np.ndarray:
    """One iteration of SAPNet in numpy, implemented from the paper and the layout of the official checkpoint."""

    def conv(x, key, dilation=1):
        weight, bias = (state[f"{key}.{part}"].numpy() for part in ("weight", "bias"))
        height, width = x.shape[1:]
        padded = np.pad(x, ((0, 0), (dilation, dilation), (dilation, dilation)))
        out = np.zeros((len(weight), height, width)) + bias[:, None, None]
        for i in range(3):
            for j in range(3):
                tap = padded[:, i * dilation : i * dilation + height, j * dilation : j * dilation + width]
                out += np.tensordot(weight[:, :, i, j], tap, axes=1)
        return out

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def cra(x, key):
        w1, w2, w3 = (state[f"{key}.{k}.weight"].numpy()[..., 0, 0] for k in ("conv_du.0", "conv_du.2", "conv_1_1"))
        pooled = x.mean(axis=(1, 2))
        return x * sigmoid(w2 @ np.maximum(w1 @ pooled, 0) + w3 @ pooled)[:, None, None]

    f = np.maximum(conv(np.concatenate([rainy, rainy]), "conv0.0"), 0)
    z = np.concatenate([f, np.zeros_like(f)])
    cell = sigmoid(conv(z, "conv_i.0")) * np.tanh(conv(z, "conv_g.0"))
    y = sigmoid(conv(z, "conv_o.0")) * np.tanh(cell)
    for block, d in enumerate((1, 2, 4, 8, 16), start=1):
        inner = np.maximum(cra(conv(y, f"res_conv{block}.0", d), f"res_conv{block}.1"), 0)
        inner = np.maximum(cra(conv(inner, f"res_conv{block}.3", d), f"res_conv{block}.4"), 0)
        y = np.maximum(y + inner, 0)
    return conv(y, "conv.0") + rainy


def test_sapnet_agrees_with_a_numpy_implementation():
    official = fake_official("sapnet")
    network = create_model("sapnet", iterations=1).eval()
    network.load_state_dict(convert_official("sapnet", official))
    rainy = np.random.default_rng(0).random((3, 18, 21))
    expected = official_sapnet_step(official, rainy)
    with torch.inference_mode():
        derained = network.double()(torch.from_numpy(rainy)[None])[0].numpy()
    np.testing.assert_allclose(derained, expected, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gated_value_and_gradient(layout):
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    values, gates = x.chunk(2, dim=1)
    torch.testing.assert_close(gated(x), values * torch.sigmoid(gates))
    assert torch.autograd.gradcheck(gated, (x,))


def test_init_from_a_larger_network_keeps_the_active_channels():
    torch.manual_seed(0)
    large = create_model("gated-unet", channels=(6, 8, 12), blocks=(2, 1, 2)).eval()
    small = create_model("gated-unet", channels=(4, 8, 9), blocks=(1, 1, 1)).eval()
    dead = {0: [1, 4], 1: [], 2: [0, 5, 11]}  # channels that are always zero, in and between the blocks
    with torch.no_grad():
        torch.nn.init.normal_(large.head.weight, std=0.1)
        large.stem.weight[dead[0]] = 0
        for level, down in enumerate(large.down):
            down.weight[dead[level + 1]] = 0
            for channel in dead[level]:
                large.up[level].weight[4 * channel : 4 * channel + 4] = 0
        for level, stack in ((0, large.encoder[0]), (0, large.decoder[0]), (2, large.bottom)):
            for block in stack:
                block.project.weight[dead[level]] = 0
                block.project.weight[:, [2, 3, 5][: len(dead[level])]] = 0
            stack[-1].scale.zero_()
    small.init_from(large)
    x = torch.rand(1, 3, 24, 32)
    with torch.inference_mode():
        torch.testing.assert_close(small(x), large(x))
        assert (small(x) - x).abs().mean() > 1e-3
    with pytest.raises(ValueError, match="no dimension may be larger"):
        small.init_from(create_model("gated-unet", channels=(3, 9, 9), blocks=(1, 1, 1)))
    with pytest.raises(ValueError, match="cannot initialize a gated U-Net"):
        small.init_from(create_model("unet"))


def test_init_from_a_smaller_network_keeps_its_function_and_can_use_the_rest():
    torch.manual_seed(0)
    small = create_model("gated-unet", channels=(4, 6, 9), blocks=(1, 0, 2)).eval()
    large = create_model("gated-unet", channels=(6, 6, 16), blocks=(2, 1, 3)).eval()
    torch.nn.init.normal_(small.head.weight, std=0.1)
    large.init_from(small)
    x = torch.rand(2, 3, 24, 32)
    with torch.inference_mode():
        torch.testing.assert_close(large(x), small(x))
        assert (large(x) - x).abs().mean() > 1e-3
    # The new channels must be reachable by training: what reads them has gradients.
    large.train()(x).square().mean().backward()
    assert large.head.weight.grad[:, 4:].abs().sum() > 0
    assert large.encoder[0][1].project.weight.grad.abs().sum() > 0
