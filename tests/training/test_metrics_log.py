"""Records of a run: the CSV survives resuming, sheets hold the images."""

from __future__ import annotations

import numpy as np
from PIL import Image

from derain.training.metrics_log import MetricsLog, scored_sets, write_sheet
from support.training import read_metrics


def test_a_resumed_log_drops_later_rows(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv")
    for step in (1, 2, 3):
        log.add(step, loss=1 / step)
    log.add(3, psnr=30.0)
    log.write()
    resumed = MetricsLog(tmp_path / "metrics.csv", resume_at=2)
    resumed.add(3, loss=0.25)
    resumed.write()
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path)] == [("1", "1"), ("2", "0.5"), ("3", "0.25")]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"], "no temporary file is left"


def test_the_loss_psnr_is_not_a_validation_set():
    assert scored_sets(["loss/psnr", "psnr", "Rain12/psnr", "Rain12/ssim"]) == {"Rain12/psnr": "Rain12"}


def test_sheets_hold_the_images(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 300, 3), np.uint8)
    write_sheet([(image / np.float32(255), np.zeros((9, 9, 3), np.float32))], tmp_path / "new" / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    assert sheet.shape == (260, 2 * 260, 3)
    assert np.array_equal(sheet[2:22, 2:258], image[:, :256])
