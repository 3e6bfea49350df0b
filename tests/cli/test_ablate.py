"""``derain ablate``: the table of an ablation."""

from __future__ import annotations

from PIL import Image


def test_the_table_is_printed_and_finished_rows_are_kept(command, photo, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(4):
        Image.fromarray(photo[20 * i : 20 * i + 120, :160]).save(photos / f"{i}.png")
    small_run = [
        "phases=[{size: 24, batch: 2}]",
        "model.settings.iterations=1",
        "model.settings.channels=8",
        "validation={every: 5000, held_out: 1, crop: 48}",
        "features=random",
        "losses.2.weight=0",
        "trainer.workers=0",
        "losses.0={name: psnr, weight: 0.01}",  # a loss with the name of a metric is not taken for a validation set
    ]
    out = tmp_path / "ablation"
    arguments = ["ablate", "sapnet", *small_run, "--data", photos, "--steps", 2, "-o", out]
    code, text, err = command(*arguments)
    assert code == 0, err
    assert [line for line in text.splitlines() if "M6-LPISL" in line and "29.46" in line]
    before = {p: p.stat().st_mtime_ns for p in out.rglob("last.ckpt")}
    assert len(before) == 6
    assert command(*arguments)[0] == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}, "finished rows are not trained again"
