"""Images for all losses."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(5)
    clean = torch.rand(2, 3, 40, 44, generator=generator)
    rainy = (clean + 0.3 * torch.rand(2, 3, 40, 44, generator=generator)).clamp(0, 1)
    derained = clean + 0.05 * torch.randn(2, 3, 40, 44, generator=generator)
    return derained, clean, rainy
