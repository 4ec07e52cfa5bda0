# The service as an image: `docker build -t scriptservice .`; docker-compose.yml starts it.
# Only instructions that every builder knows; scripts/check-image carries them out without one.

FROM python:3.13-slim AS base

# --- The page: built from web/, with the packages that its lock names by hash; node stays here ----

FROM node:24-slim AS page
WORKDIR /build
COPY scripts/build-page ./scripts/
COPY web ./web
RUN scripts/build-page

# --- What starts scripts; without it they start slower. The compiler stays here -------------------

FROM python:3.13 AS launcher
WORKDIR /build
COPY scripts/build-launcher ./scripts/
COPY launcher ./launcher
RUN scripts/build-launcher

# --- The wheel: the package and everything it needs, checked against the hashes in the lock -------

FROM base AS wheel
WORKDIR /build
COPY requirements.lock ./
RUN pip download --no-cache-dir --disable-pip-version-check --quiet --require-hashes \
    --only-binary :all: --dest /wheels --requirement requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src ./src
COPY --from=page /build/src/scriptservice/ui ./src/scriptservice/ui
COPY --from=launcher /build/src/scriptservice/keeper/spawn ./src/scriptservice/keeper/spawn
RUN pip wheel --no-cache-dir --disable-pip-version-check --quiet --no-index --find-links /wheels \
    --no-deps --wheel-dir /wheels .
# Only what the package asks for, so not what built it; without pip, and not where scripts that use
# Python would find it.
RUN python -m venv --without-pip /opt/scriptservice \
    && pip --python /opt/scriptservice/bin/python install --no-cache-dir \
    --disable-pip-version-check --quiet --no-index --find-links /wheels scriptservice

# --- The image ------------------------------------------------------------------------------------

FROM base
LABEL org.opencontainers.image.title="ScriptService" \
    org.opencontainers.image.licenses="Apache-2.0"
# Scripts run as this user, without rights of its own; the service itself stays root and gives
# everything up that the compose file does not name (docs/adr/0010-root-in-the-container.md).
RUN groupadd --gid 59999 scriptservice \
    && useradd --uid 59999 --gid 59999 --no-log-init --no-create-home --home-dir /nonexistent \
    --shell /bin/bash scriptservice \
    && mkdir --mode=0711 /data \
    && ln -s /opt/scriptservice/bin/scriptservice /usr/local/bin/scriptservice
COPY --from=wheel /opt/scriptservice /opt/scriptservice
ENV SCRIPTSERVICE_HOST=0.0.0.0 \
    SCRIPTSERVICE_PORT=8000 \
    SCRIPTSERVICE_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
# The server answers, or its keeper is about to start another: that is all this asks. Isolated and
# without site-packages it takes a twentieth of a second.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/python3", "-IS", "-c", "import os, http.client as http; c = http.HTTPConnection('127.0.0.1', int(os.environ['SCRIPTSERVICE_PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# In exec form: `serve` becomes the keeper, which is process 1 and reaps.
ENTRYPOINT ["/opt/scriptservice/bin/scriptservice"]
CMD ["serve"]
