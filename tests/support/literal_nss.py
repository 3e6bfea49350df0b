"""NSS pixel by pixel, from the facts of the paper and code: slow, to compare with."""

from __future__ import annotations

import numpy as np


def literal_candidates(image, rain_map, y, x, *, neighbors=7, similarity=3, power=0.5):
    """``[(y, x)]`` and their probabilities, in raster order; no probability without a candidate."""
    height, width = rain_map.shape
    clean = rain_map == 0
    side = similarity
    while True:
        h = side // 2
        if clean[max(0, y - h) : y + h + 1, max(0, x - h) : x + h + 1].any():
            break
        side += 2

    def pixel(i, j):
        return image[i, j].astype(int) if 0 <= i < height and 0 <= j < width else np.zeros(3, int)

    def visible(i, j):
        return clean[i, j] if 0 <= i < height and 0 <= j < width else True

    r = neighbors // 2
    places, weights = [], []
    for i in range(max(0, y - r), min(height, y + r + 1)):
        for j in range(max(0, x - r), min(width, x + r + 1)):
            if not clean[i, j]:
                continue
            distance = 0
            for dy in range(-h, h + 1):
                for dx in range(-h, h + 1):
                    if visible(y + dy, x + dx):
                        distance += np.abs(pixel(y + dy, x + dx) - pixel(i + dy, j + dx)).sum()
            places.append((i, j))
            weights.append(np.float32(1 / max(float(distance) ** power, 1e-4)))
    weights = np.array(weights, np.float32).astype(np.float64)
    return places, weights / weights.sum() if len(weights) else weights


def literal_references(image, rain_map, count, *, threshold=10, seed=0, **options):
    """All references, ``(count, H, W, 3)``; the generator is restarted at each pixel, as the authors do."""
    references = np.repeat(image[None], count, axis=0)
    for y, x in np.argwhere(rain_map > threshold):
        places, probabilities = literal_candidates(image, rain_map, y, x, **options)
        if places:
            rng = np.random.RandomState(seed)
            for n, choice in enumerate(rng.choice(len(places), count, p=probabilities)):
                references[n, y, x] = image[places[choice]]
    return references
