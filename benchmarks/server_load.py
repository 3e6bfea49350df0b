"""A server under load: many clients at once, images of mixed sizes, some hostile requests.

    python benchmarks/server_load.py --clients 32 --seconds 60

Starts ``derain serve`` on the loopback interface, gets the expected results from ``derain run``, and reports
responses by status, correct results, response times and the server's memory over time. The exit code is 1 if a
response was wrong, missing or 5xx. ``--batching`` measures the gain of batches of equal sizes instead.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZES = [(48, 64), (96, 96), (128, 192), (240, 160), (320, 240)]
KINDS = ["JPEG", "PNG", "WEBP"]
MAX_BYTES = 4 * 2**20
# The start of a BMP that declares 60,000 × 60,000 pixels.
BOMB = b"BM" + struct.pack("<IIIIiiHHI", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0) + bytes(2000)


def make_images(folder: Path) -> list[Path]:
    """Crops of the examples in mixed sizes and formats."""
    files = []
    sources = sorted(EXAMPLES.glob("*.jpg"))
    for index, size in enumerate(SIZES):
        for position, kind in enumerate(KINDS):
            image = Image.open(sources[(index + position) % len(sources)]).convert("RGB").crop((0, 0, *size))
            path = folder / f"{index}-{kind}.{kind.lower().replace('jpeg', 'jpg')}"
            image.save(path)
            files.append(path)
    return files


def hostile(rng: random.Random, good: bytes) -> tuple[bytes, str]:
    """A body and a query that must be rejected."""
    return rng.choice(
        [
            (good[: len(good) // 3], ""),
            (rng.randbytes(2000), ""),
            (b"", ""),
            (bytes(MAX_BYTES + 1), ""),
            (BOMB, ""),
            (good, "?model=../../etc/passwd"),
            (good, "?strength=nan"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n", ""),
        ]
    )


async def one_client(base: str, seed: int, end: float, expected: dict[bytes, str], share: float, counts: dict) -> None:
    rng = random.Random(seed)
    bodies = list(expected)
    async with httpx.AsyncClient(base_url=base, timeout=180) as client:
        while time.monotonic() < end:
            body, is_hostile = rng.choice(bodies), rng.random() < share
            if is_hostile and rng.random() < 0.2:
                await disconnect_early(base, body)
                counts["disconnected early"] += 1
                continue
            sent, query = hostile(rng, body) if is_hostile else (body, "")
            start = time.monotonic()
            try:
                response = await client.post(f"/v1/derain{query}", content=sent)
            except httpx.HTTPError as error:
                counts["errors"].append(f"{type(error).__name__}: {error}")
                continue
            counts["hostile" if is_hostile else "good"][response.status_code] += 1
            if response.status_code == 200 and not is_hostile:
                counts["seconds"].append(time.monotonic() - start)
                correct = hashlib.sha256(response.content).hexdigest() == expected[body]
                counts["correct" if correct else "wrong"] += 1
            elif response.status_code == 429:
                await asyncio.sleep(min(1.0, float(response.headers["retry-after"])))


async def disconnect_early(base: str, body: bytes) -> None:
    """Send half of an upload, then close the connection."""
    host, port = base.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /v1/derain HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body[: len(body) // 2])
    await writer.drain()
    writer.close()


async def watch_memory(pid: int, end: float, memory: list[float]) -> None:
    process = psutil.Process(pid)
    while time.monotonic() < end:
        memory.append(round(process.memory_info().rss / 1e6, 1))
        await asyncio.sleep(2)


async def load(base: str, pid: int, options: argparse.Namespace, expected: dict[bytes, str]) -> dict:
    counts: dict = {"good": Counter(), "hostile": Counter(), "errors": [], "seconds": [], "memory": []}
    counts |= {"correct": 0, "wrong": 0, "disconnected early": 0}
    end = time.monotonic() + options.seconds
    clients = [one_client(base, seed, end, expected, options.hostile, counts) for seed in range(options.clients)]
    await asyncio.gather(watch_memory(pid, end, counts["memory"]), *clients)
    return counts


def serve_and_load(options: argparse.Namespace) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder))
        out = Path(folder) / "out"
        run = ["run", folder, "-o", str(out), "-q", "--model", options.model]
        subprocess.run([sys.executable, "-m", "derain", *run], check=True)
        expected = {p.read_bytes(): hashlib.sha256((out / p.name).read_bytes()).hexdigest() for p in files}
        words = ["serve", "--port", str(port), "--max-bytes", str(MAX_BYTES), "--model", options.model]
        words += ["--queue", str(options.queue)]
        log = (Path(folder) / "log").open("w")
        server = subprocess.Popen([sys.executable, "-m", "derain", *words], stdout=log, stderr=log)
        try:
            while True:
                try:
                    httpx.get(f"{base}/healthz").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            counts = asyncio.run(load(base, server.pid, options, expected))
        finally:
            server.terminate()
            server.wait()
            log.close()
    seconds = sorted(counts.pop("seconds"))
    if seconds:
        counts["median, 95 %, longest seconds"] = [round(float(np.quantile(seconds, q)), 2) for q in (0.5, 0.95, 1.0)]
    memory = counts["memory"]
    half = memory[len(memory) // 2 :]
    counts["growth in the second half, MB"] = round(float(np.median(half[-3:]) - np.median(half[:3])), 1)
    print(json.dumps(counts, indent=1))
    statuses = counts["good"] + counts["hostile"]
    failures = counts["wrong"] + len(counts["errors"]) + sum(n for status, n in statuses.items() if status >= 500)
    return 1 if failures or not counts["correct"] or 200 in counts["hostile"] else 0


def batching() -> int:
    """Measure seconds per image of 480×320, alone and in batches."""
    from derain import Derainer

    runtime = Derainer().runtime
    batch = np.random.default_rng(0).random((8, 3, 320, 480), dtype=np.float32)
    runtime(batch[:1])
    for size in (1, 2, 4, 8):
        times = []
        for _ in range(2):
            start = time.perf_counter()
            for first in range(0, 8, size):
                runtime(batch[first : first + size])
            times.append((time.perf_counter() - start) / 8)
        print(f"batches of {size}: {min(times):.3f} s per image")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--hostile", type=float, default=0.1, help="share of hostile requests")
    parser.add_argument("--model", default="default")
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--batching", action="store_true")
    options = parser.parse_args()
    sys.exit(batching() if options.batching else serve_and_load(options))
