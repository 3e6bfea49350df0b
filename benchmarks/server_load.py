"""A server under load: many clients at once, pictures of mixed sizes, some clients that mean harm.

    python benchmarks/server_load.py --clients 32 --seconds 60

Starts ``derain serve`` on the loopback, knows the right results from ``derain run``, and reports the
answers by status, the hashes, waiting times and the server's memory over time. Exit code 1 if an
answer was wrong, missing or 5xx. ``--batching`` measures instead what batches of equal sizes would gain.
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
from PIL import Image

from derain.server.metrics import resident_bytes

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZES = [(48, 64), (96, 96), (128, 192), (240, 160), (320, 240)]
KINDS = ["JPEG", "PNG", "WEBP"]
MAX_BYTES = 4 * 2**20
# Some bytes of a BMP that claims 60,000 × 60,000 pixels.
BOMB = b"BM" + struct.pack("<IIIIiiHHI", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0) + bytes(2000)


def make_pictures(folder: Path) -> list[Path]:
    """Crops of the examples in mixed sizes and formats."""
    made = []
    sources = sorted(EXAMPLES.glob("*.jpg"))
    for index, size in enumerate(SIZES):
        for place, kind in enumerate(KINDS):
            image = Image.open(sources[(index + place) % len(sources)]).convert("RGB").crop((0, 0, *size))
            path = folder / f"{index}-{kind}.{kind.lower().replace('jpeg', 'jpg')}"
            image.save(path)
            made.append(path)
    return made


def hostile(rng: random.Random, good: bytes) -> tuple[bytes, str]:
    """A body and a query that must be refused."""
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


async def one_client(base: str, seed: int, end: float, pictures: dict[bytes, str], share: float, seen: dict) -> None:
    rng = random.Random(seed)
    bodies = list(pictures)
    async with httpx.AsyncClient(base_url=base, timeout=180) as client:
        while time.monotonic() < end:
            body, bad = rng.choice(bodies), rng.random() < share
            if bad and rng.random() < 0.2:
                await leave_early(base, body)
                seen["left early"] += 1
                continue
            sent, query = hostile(rng, body) if bad else (body, "")
            start = time.monotonic()
            try:
                answer = await client.post(f"/v1/derain{query}", content=sent)
            except httpx.HTTPError as error:
                seen["faults"].append(f"{type(error).__name__}: {error}")
                continue
            seen["hostile" if bad else "good"][answer.status_code] += 1
            if answer.status_code == 200 and not bad:
                seen["seconds"].append(time.monotonic() - start)
                right = hashlib.sha256(answer.content).hexdigest() == pictures[body]
                seen["right" if right else "wrong"] += 1
            elif answer.status_code == 429:
                await asyncio.sleep(min(1.0, float(answer.headers["retry-after"])))


async def leave_early(base: str, body: bytes) -> None:
    """Half of an upload, then a closed connection."""
    host, port = base.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /v1/derain HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body[: len(body) // 2])
    await writer.drain()
    writer.close()


async def watch(pid: int, end: float, memory: list[float]) -> None:
    while time.monotonic() < end:
        memory.append(round((resident_bytes(pid) or 0) / 1e6, 1))
        await asyncio.sleep(2)


async def load(base: str, pid: int, options: argparse.Namespace, pictures: dict[bytes, str]) -> dict:
    seen: dict = {"good": Counter(), "hostile": Counter(), "faults": [], "seconds": [], "memory": []}
    seen |= {"right": 0, "wrong": 0, "left early": 0}
    end = time.monotonic() + options.seconds
    clients = [one_client(base, seed, end, pictures, options.hostile, seen) for seed in range(options.clients)]
    await asyncio.gather(watch(pid, end, seen["memory"]), *clients)
    return seen


def serve_and_load(options: argparse.Namespace) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        made = make_pictures(Path(folder))
        out = Path(folder) / "out"
        run = ["run", folder, "-o", str(out), "-q", "--model", options.model]
        subprocess.run([sys.executable, "-m", "derain", *run], check=True)
        pictures = {p.read_bytes(): hashlib.sha256((out / p.name).read_bytes()).hexdigest() for p in made}
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
            seen = asyncio.run(load(base, server.pid, options, pictures))
        finally:
            server.terminate()
            server.wait()
            log.close()
    seconds = sorted(seen.pop("seconds"))
    if seconds:
        seen["median, 95 %, longest answer in s"] = [round(float(np.quantile(seconds, q)), 2) for q in (0.5, 0.95, 1.0)]
    memory = seen["memory"]
    half = memory[len(memory) // 2 :]
    seen["growth in the second half, MB"] = round(float(np.median(half[-3:]) - np.median(half[:3])), 1)
    print(json.dumps(seen, indent=1))
    statuses = seen["good"] + seen["hostile"]
    bad = seen["wrong"] + len(seen["faults"]) + sum(n for status, n in statuses.items() if status >= 500)
    return 1 if bad or not seen["right"] or 200 in seen["hostile"] else 0


def batching() -> int:
    """Seconds a picture of 480×320, alone and in batches."""
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
        print(f"batches of {size}: {min(times):.3f} s a picture")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--hostile", type=float, default=0.1, help="share of requests that mean harm")
    parser.add_argument("--model", default="default")
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--batching", action="store_true")
    chosen = parser.parse_args()
    sys.exit(batching() if chosen.batching else serve_and_load(chosen))
