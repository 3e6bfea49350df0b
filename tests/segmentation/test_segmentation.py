"""Segmenters: published layouts and parameter counts, reference implementations, public weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from derain.errors import ModelError
from derain.segmentation import SEGMENTERS, Segmenter, create_segmenter, enlarge
from derain.segmentation import resnet as trunks
from derain.segmentation.resnet import ResNet, normalized

COUNTS = {"pspnet101": 65_707_475, "ubs": 47_121_493, "compact": 1_162_779, "compact-half": 291_795}
STRIDES = {"pspnet101": 8, "ubs": 4, "compact": 4, "compact-half": 4}
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet101": (3, 4, 23, 3)}


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_follows_the_protocol(name):
    torch.manual_seed(0)
    with torch.device("meta"):
        assert count(create_segmenter(name)) == COUNTS[name]
        assert create_segmenter(name, 5).classes == 5
    small = {"trunk": "resnet18"} if name == "ubs" else {}
    segmenter = create_segmenter(name, 7, **small).eval()
    assert isinstance(segmenter, Segmenter)
    for height, width in ((32, 48), (37, 53)):
        with torch.inference_mode():
            logits = segmenter(torch.rand(1, 3, height, width))
        stride = STRIDES[name]
        assert logits.shape == (1, 7, -(-height // stride), -(-width // stride))
        assert logits.isfinite().all()
        assert enlarge(logits, height, width).shape == (1, 7, height, width)


def test_unknown_names_and_settings_raise():
    for arguments, message in (
        (("unet",), "unknown segmenter"),
        (("compact", 1), "at least 2"),
        (("ubs", 21), "resnet18 or resnet101"),
    ):
        settings = {"trunk": "vgg"} if arguments[0] == "ubs" else {}
        with pytest.raises(ModelError, match=message):
            create_segmenter(*arguments, **settings)
    with pytest.raises(ModelError, match="color"):
        create_segmenter("compact", color="red")
    with pytest.raises(ModelError, match="width must be"):
        create_segmenter("compact", width=0)
    with pytest.raises(ValueError, match="v1 or deep"):
        ResNet("resnet18", stem="wide")


def expected_trunk_keys(name):
    """The keys of torchvision's ResNet without its classifier."""
    convs = 3 if name == "resnet101" else 2
    keys = {"conv1.weight"} | bn("bn1")
    for stage, blocks in enumerate(BLOCKS[name], start=1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            for i in range(1, convs + 1):
                keys |= {f"{at}.conv{i}.weight"} | bn(f"{at}.bn{i}")
            if block == 0 and (stage > 1 or name == "resnet101"):
                keys |= {f"{at}.downsample.0.weight"} | bn(f"{at}.downsample.1")
    return keys


def bn(at):
    return {f"{at}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_176_512), ("resnet101", 42_500_160)])
def test_trunks_have_torchvisions_keys_and_counts(name, parameters):
    with torch.device("meta"):
        trunk = ResNet(name)
    assert set(trunk.state_dict()) == expected_trunk_keys(name)
    assert count(trunk) == parameters


class Reference:
    """ResNet's parts as functions of a state dictionary in torchvision's names."""

    def __init__(self, module):
        self.state = module.state_dict()

    def conv(self, x, key, stride=1, dilation=1):
        weight = self.state[f"{key}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, self.state.get(f"{key}.bias"), stride, padding, dilation)

    def norm(self, x, key):
        parts = (self.state[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    def block(self, x, key, stride=1, dilation=1):
        shortcut = x
        if f"{key}.downsample.0.weight" in self.state:
            shortcut = self.norm(self.conv(x, f"{key}.downsample.0", stride), f"{key}.downsample.1")
        deep = f"{key}.conv3.weight" in self.state
        steps = ((1, 1), (stride, dilation), (1, 1)) if deep else ((stride, dilation), (1, dilation))
        for i, (step, spread) in enumerate(steps, start=1):
            x = self.norm(self.conv(x, f"{key}.conv{i}", step, spread), f"{key}.bn{i}")
            x = F.relu(x + shortcut if i == len(steps) else x)
        return x

    def stage(self, x, key, blocks, stride, dilation=1):
        for place in range(blocks):
            x = self.block(x, f"{key}.{place}", stride if place == 0 else 1, dilation)
        return x


def randomized(module):
    """Batch statistics as of a trained network, so that no layer is the identity."""
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            torch.nn.init.normal_(buffer, std=0.05)
        elif name.endswith("running_var"):
            torch.nn.init.uniform_(buffer, 0.8, 1.2)
    return module.eval()


def test_the_trunk_matches_a_reference_implementation():
    torch.manual_seed(0)
    trunk = randomized(ResNet("resnet18"))
    reference, x = Reference(trunk), torch.rand(1, 3, 45, 70)
    with torch.inference_mode():
        y = F.max_pool2d(F.relu(reference.norm(reference.conv(x, "conv1", 2), "bn1")), 3, 2, 1)
        found = trunk(x)
        for stage in range(4):
            y = reference.stage(y, f"layer{stage + 1}", 2, 1 if stage == 0 else 2)
            torch.testing.assert_close(found[stage], y, rtol=1e-4, atol=1e-4)


def test_pspnet_has_semsegs_layout_and_matches_a_reference_implementation():
    torch.manual_seed(0)
    network = randomized(create_segmenter("pspnet101"))
    keys = {key for at, place in ((0, 1), (3, 4), (6, 7)) for key in {f"layer0.{at}.weight"} | bn(f"layer0.{place}")}
    for branch in range(4):
        keys |= {f"ppm.features.{branch}.1.weight"} | bn(f"ppm.features.{branch}.2")
    keys |= {"cls.0.weight", "cls.4.weight", "cls.4.bias"} | bn("cls.1")
    keys |= {key for key in expected_trunk_keys("resnet101") if key.startswith("layer")}
    state = network.state_dict()
    assert set(state) == keys
    # Published files have `module.` and the auxiliary head.
    published = {f"module.{key}": value for key, value in state.items()} | {"module.aux.4.bias": torch.zeros(19)}
    assert set(network.rename_public(published)) == keys

    reference, image = Reference(network), torch.rand(1, 3, 41, 57)
    with torch.inference_mode():
        mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
        x = (image - mean) / deviation
        for conv, norm, stride in ((0, 1, 2), (3, 4, 1), (6, 7, 1)):
            x = F.relu(reference.norm(reference.conv(x, f"layer0.{conv}", stride), f"layer0.{norm}"))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, stride, dilation in ((1, 1, 1), (2, 2, 1), (3, 1, 2), (4, 1, 4)):
            x = reference.stage(x, f"layer{stage}", BLOCKS["resnet101"][stage - 1], stride, dilation)
        parts = [x]
        for branch, side in enumerate((1, 2, 3, 6)):
            at = f"ppm.features.{branch}"
            pooled = F.relu(reference.norm(reference.conv(F.adaptive_avg_pool2d(x, side), f"{at}.1"), f"{at}.2"))
            parts.append(F.interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=True))
        x = F.relu(reference.norm(reference.conv(torch.cat(parts, 1), "cls.0"), "cls.1"))
        x = reference.conv(x, "cls.4")
        torch.testing.assert_close(network(image), x, rtol=1e-3, atol=1e-3 * x.abs().max().item())
        network.normalize = False
        torch.testing.assert_close(normalized(image), (image - mean) / deviation)
        assert not torch.allclose(network(image), x, rtol=1e-2)


def test_ubs_matches_a_reference_implementation():
    torch.manual_seed(0)
    network = create_segmenter("ubs", trunk="resnet18").eval()
    for module in (*network.lateral, *network.smooth.modules(), network.classify):
        if isinstance(module, torch.nn.Conv2d):
            assert not module.bias.any()
            assert module.weight.detach().std().item() == pytest.approx(0.01, rel=0.1)
            torch.nn.init.normal_(module.bias, std=0.1)
    reference, x = Reference(network), torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        features = network.trunk(x)

        def up(y, like):
            return F.interpolate(y, like.shape[2:], mode="bilinear", align_corners=True)

        tops = [reference.conv(features[3], "lateral.3")]
        for level in (2, 1, 0):
            lateral = reference.conv(features[level], f"lateral.{level}")
            tops.append(up(tops[-1], lateral) + lateral)
        smooth = [
            up(reference.conv(reference.conv(top, f"smooth.{level}.0"), f"smooth.{level}.1"), features[0])
            for level, top in zip((3, 2, 1, 0), tops, strict=True)
        ]
        expected = reference.conv(torch.cat(smooth, 1), "classify")
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_the_compact_segmenter_learns_and_every_parameter_has_a_gradient():
    torch.manual_seed(0)
    segmenter = create_segmenter("compact", 3)
    # Three colors, three classes, in squares.
    labels = torch.randint(0, 3, (4, 4, 4)).repeat_interleave(12, 1).repeat_interleave(12, 2)
    images = F.one_hot(labels, 3).permute(0, 3, 1, 2) * 0.6 + 0.2 * torch.rand(4, 3, 48, 48)
    optimizer = torch.optim.Adam(segmenter.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = F.cross_entropy(enlarge(segmenter(images), 48, 48), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad.abs().sum() > 0 for p in segmenter.parameters())


@pytest.fixture
def public(web, tmp_path, monkeypatch):
    """ResNet-18 on a local server, with random weights, a classifier and its own checksum."""
    www, address = web
    torch.manual_seed(3)
    state = ResNet("resnet18").state_dict()
    torch.save({**state, "fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, www / "resnet18.pth")
    digest = hashlib.sha256((www / "resnet18.pth").read_bytes()).hexdigest()
    entry = replace(trunks.PUBLIC["resnet18"], url=f"{address}/resnet18.pth", sha256=digest)
    monkeypatch.setitem(trunks.PUBLIC, "resnet18", entry)
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    return www, state


def test_public_trunk_weights_are_downloaded_and_fit(public):
    network = create_segmenter("ubs", trunk="resnet18").load_public()
    for key, value in public[1].items():
        assert torch.equal(network.trunk.state_dict()[key], value)
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(ModelError, match="not the weights of this trunk"):
        ResNet("resnet18", stem="deep").load_public()


def test_a_failed_download_is_reported(public):
    (public[0] / "resnet18.pth").unlink()
    with pytest.raises(ModelError, match=r"resnet18 trunk: cannot fetch .* put the file at"):
        ResNet("resnet18").load_public()


def test_public_files_have_their_checksum_in_their_name():
    """torchvision's file names contain the first digits of the sha256."""
    for entry in trunks.PUBLIC.values():
        assert entry.file.split("-")[1].removesuffix(".pth") == entry.sha256[:8]
