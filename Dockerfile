# The server, on a CPU:  docker build -t derain .  &&  docker run --rm -p 127.0.0.1:8000:8000 derain
FROM python:3.12-slim

# The CPU build of torch has its own package index and is gigabytes smaller.
COPY constraints.txt /tmp/constraints.txt
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch

WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY LICENSES LICENSES
COPY src src
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt ".[server]" \
    && rm -rf /build /tmp/constraints.txt \
    && useradd --create-home --uid 10001 derain

USER 10001
WORKDIR /home/derain
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]

# Inside a container, access is controlled by the published port. Set DERAIN_TOKEN to require a token.
ENTRYPOINT ["derain", "serve", "--host", "0.0.0.0"]
CMD ["--port", "8000"]
