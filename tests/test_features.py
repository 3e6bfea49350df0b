"""Feature pyramids have torchvision's layout."""

from __future__ import annotations

import pytest
import torch

from derain import features
from derain.features import FeaturePyramid

# Indices of the convolutions in torchvision's `features`, and their output channels.
TORCHVISION = {
    "alexnet": {0: 64, 3: 192, 6: 384, 8: 256, 10: 256},
    "vgg16": {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256}
    | {17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512},
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_keys_and_shapes_are_torchvisions(name):
    state = FeaturePyramid(name).state_dict()
    expected = {f"features.{place}.{part}" for place in TORCHVISION[name] for part in ("weight", "bias")}
    assert set(state) == expected
    for place, channels in TORCHVISION[name].items():
        assert state[f"features.{place}.weight"].shape[0] == channels
    # Published counts of the convolutional parts.
    assert sum(v.numel() for v in state.values()) == {"alexnet": 2_469_696, "vgg16": 14_714_688}[name]


@pytest.mark.parametrize("name", TORCHVISION)
def test_features_come_from_relus_at_falling_resolution(name):
    maps = FeaturePyramid(name)(torch.rand(1, 3, 64, 96))
    assert [m.shape[1] for m in maps] == list(features.CHANNELS[name])
    assert all((m >= 0).all() for m in maps)
    heights = [m.shape[2] for m in maps]
    assert heights == ([64, 32, 16, 8, 4] if name == "vgg16" else [15, 7, 3, 3, 3])


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="alexnet, vgg16"):
        FeaturePyramid("resnet")
    with pytest.raises(ValueError, match="no layer 99"):
        FeaturePyramid("alexnet", (99,))
