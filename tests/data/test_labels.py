"""Labeled pictures, what segmenters learn from them by, and IoU: against numpy, closed forms and properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from derain.data.labels import VOID, LabeledPatches, balanced_weights, count_classes, find_labeled, recolored
from derain.errors import InputError
from derain.losses.labeled import lovasz_softmax, weighted_entropy
from derain.metrics import class_iou, confusion_matrix, mean_iou
from derain.segmentation.colors import colored, palette
from support.labels import COLORS, blocks, write_split


@pytest.fixture
def split(tmp_path):
    return write_split(tmp_path / "train", {f"p{i}": blocks(i) for i in range(5)})


def test_pairs_counts_and_void(split):
    pairs = find_labeled(split)
    assert [pair.name for pair in pairs] == [f"p{i}" for i in range(5)]
    whole = np.concatenate([blocks(i).ravel() for i in range(5)])
    assert count_classes(pairs, 3).tolist() == [(whole == c).sum() for c in range(3)]
    picture, labels = pairs[0].read(3)
    assert picture.shape == (72, 96, 3)
    assert np.array_equal(labels == VOID, blocks(0) == 11)
    assert np.array_equal(picture[labels == 1][0], COLORS[1])


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_balanced_weights_leave_the_mean_pixel_at_one(power):
    counts = np.array([900, 90, 10])
    weights = balanced_weights(counts, power)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1, rel=1e-6)
    assert weights[2] / weights[0] == pytest.approx(90**power, rel=1e-5)
    assert np.isfinite(balanced_weights(np.array([5, 0]), power)).all()


def test_patches_keep_picture_and_labels_together(split):
    patches = LabeledPatches(find_labeled(split), 3, zoom=(1.0, 2.0), jitter=0, seed=3)
    for number in range(10):
        picture, labels = patches[number, 40]
        assert picture.shape == (3, 40, 40)
        assert labels.dtype == torch.int64
        assert set(labels.unique().tolist()) <= {0, 1, 2, VOID}
        shown = picture.permute(1, 2, 0).reshape(-1, 1, 3) * 255
        nearest = (shown - torch.from_numpy(COLORS).float()).norm(dim=2).argmin(1).view(40, 40)
        known = labels != VOID
        assert (nearest[known] == labels[known]).float().mean() > 0.9  # all but the blurred edges


def test_patches_are_a_function_of_their_number_and_fair(tmp_path):
    flat = {f"p{i}": np.full((30, 40), i) for i in range(7)}
    pairs = find_labeled(write_split(tmp_path / "train", flat))
    first, second = (LabeledPatches(pairs, 7, zoom=(1, 2), seed=1) for _ in range(2))
    again = [second[i, 16] for i in reversed(range(14))][::-1]
    for i in range(14):
        assert all(torch.equal(a, b) for a, b in zip(first[i, 16], again[i], strict=True))
    seen = [int(labels[0, 0]) for _, labels in again]
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7)), "each comes once before any comes twice"
    assert seen[:7] != seen[7:]


def test_recolored(photo):
    unit = photo.astype(np.float32) / 255
    assert np.allclose(recolored(unit, 0, np.random.default_rng(0)), unit, atol=1e-5)
    changed = recolored(unit, 1, np.random.default_rng(0))
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert np.abs(changed - unit).mean() > 0.01
    # Light changes, the scene stays.
    assert np.corrcoef(changed.mean(2).ravel(), unit.mean(2).ravel())[0, 1] > 0.95


def test_what_is_wrong_with_a_split_is_one_line(tmp_path, split):
    with pytest.raises(InputError, match="no images/ and labels/"):
        find_labeled(tmp_path)
    (split / "labels" / "p1.png").unlink()
    with pytest.raises(InputError, match=r"p1\.png: missing, for 1 of 5"):
        find_labeled(split)
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(split / "labels" / "p1.png")
    with pytest.raises(InputError, match="10×10, but its picture is 96×72"):
        find_labeled(split)[1].read(3)
    Image.fromarray(np.zeros((72, 96, 3), np.uint8)).save(split / "labels" / "p1.png")
    with pytest.raises(InputError, match="not a gray picture"):
        find_labeled(split)[1].read(3)
    (split / "labels" / "p1.png").write_bytes(b"")
    with pytest.raises(InputError, match="not a gray picture"):
        count_classes(find_labeled(split), 3)


def naive_confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    table = np.zeros((classes, classes), int)
    for p, t in zip(predicted.ravel(), labels.ravel(), strict=True):
        if t < classes:
            table[t, p] += 1
    return table


@pytest.mark.parametrize("seed", range(3))
def test_iou_is_numpys(seed):
    rng = np.random.default_rng(seed)
    predicted, labels = rng.integers(0, 5, (2, 9, 11)), rng.integers(0, 7, (2, 9, 11))  # 5 and 6 are void
    confusion = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(labels), 5)
    assert np.array_equal(confusion.numpy(), naive_confusion(predicted, labels, 5))
    known = labels < 5
    for c, value in enumerate(class_iou(confusion).tolist()):
        ours, truth = (predicted == c)[known], (labels == c)[known]
        assert value == pytest.approx((ours & truth).sum() / (ours | truth).sum())
    assert mean_iou(confusion) == pytest.approx(class_iou(confusion).mean().item())


def test_iou_at_its_ends():
    labels = torch.tensor([0, 0, 1, 1, 255])
    right = confusion_matrix(torch.tensor([0, 0, 1, 1, 2]), labels, 3)
    assert class_iou(right)[2].isnan(), "class 2 is neither there nor seen outside void"
    assert mean_iou(right) == 1
    assert mean_iou(confusion_matrix(torch.tensor([1, 1, 0, 0, 0]), labels, 3)) == 0
    assert np.isnan(mean_iou(torch.zeros(3, 3, dtype=torch.int64)))
    with pytest.raises(ValueError, match="shapes must agree"):
        confusion_matrix(torch.zeros(3), labels, 3)


def test_entropy_is_torchs_with_void_left_out():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 6, 5), torch.randint(0, 4, (2, 6, 5))
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    for chosen in (None, weights):
        assert weighted_entropy(logits, labels, chosen) == pytest.approx(
            F.cross_entropy(logits, labels, chosen).item(), rel=1e-6
        )
    void = labels.clone()
    void[0] = VOID
    assert weighted_entropy(logits, void, weights) == pytest.approx(
        F.cross_entropy(logits[1:], labels[1:], weights).item(), rel=1e-6
    )
    assert weighted_entropy(logits, torch.full_like(labels, VOID), weights) == 0
    # At the labels' resolution: equal logits everywhere stay so when enlarged.
    flat = torch.tensor([2.0, 0, 0, 0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert weighted_entropy(flat, torch.zeros(1, 9, 9, dtype=torch.long)).item() == pytest.approx(
        -torch.log_softmax(flat[0, :, 0, 0], 0)[0].item(), rel=1e-6
    )


def test_lovasz_is_the_jaccard_loss_of_sure_predictions():
    torch.manual_seed(1)
    predicted, labels = torch.randint(0, 4, (2, 8, 8)), torch.randint(0, 3, (2, 8, 8))
    labels[0, :3] = VOID
    logits = 100.0 * F.one_hot(predicted, 4).permute(0, 3, 1, 2)
    iou = class_iou(confusion_matrix(predicted, labels, 4))
    assert lovasz_softmax(logits, labels).item() == pytest.approx(1 - iou[:3].mean().item(), abs=1e-5)
    assert lovasz_softmax(logits, torch.full_like(labels, VOID)) == 0


def test_lovasz_is_a_sum_over_thresholds_and_has_its_gradient():
    # Lovász extension: the integral of the set function over the sets of places whose error exceeds t.
    torch.manual_seed(2)
    logits = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (1, 3, 4))
    shares = torch.softmax(logits.detach(), 1)[0]
    expected = 0.0
    for c in range(2):
        truth = labels[0] == c
        errors = (truth.double() - shares[c]).abs()
        levels = torch.cat([torch.zeros(1, dtype=torch.float64), errors.flatten().sort().values])
        for low, high in itertools.pairwise(levels):
            wrong = errors > (low + high) / 2
            jaccard = int((truth & ~wrong).sum()) / int((truth | wrong).sum())
            expected += (high - low).item() * (1 - jaccard) / 2
    assert lovasz_softmax(logits, labels).item() == pytest.approx(expected, abs=1e-9)
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x, labels), (logits,))


def test_colors_tell_classes_apart():
    table = palette()
    assert table.shape == (256, 3)
    assert len({tuple(c) for c in table.tolist()}) == 256
    assert np.array_equal(colored(np.array([[3, 255]])), [[[128, 64, 128], [0, 0, 0]]])
