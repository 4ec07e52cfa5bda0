# The image of the service: `docker build -t scriptservice .`; docker-compose.yml runs it.
# It uses only instructions that every builder knows; scripts/check-image executes them without one.

FROM python:3.13-slim AS base

# --- The web page, built from web/ with the packages that its lock pins by hash; node stays here --

FROM node:24-slim AS page
WORKDIR /build
COPY scripts/build-page ./scripts/
COPY web ./web
RUN scripts/build-page

# --- The launcher, without which scripts start slower; the compiler stays here --------------------

FROM python:3.13 AS launcher
WORKDIR /build
COPY scripts/build-launcher ./scripts/
COPY launcher ./launcher
RUN scripts/build-launcher

# --- The package and its dependencies, checked against the hashes in the lock ---------------------

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
# Only the package and its run-time dependencies, without build tools and pip, in a directory where
# scripts that use Python do not find them.
RUN python -m venv --without-pip /opt/scriptservice \
    && pip --python /opt/scriptservice/bin/python install --no-cache-dir \
    --disable-pip-version-check --quiet --no-index --find-links /wheels 'scriptservice[server,postgresql]'

# --- The image ------------------------------------------------------------------------------------

FROM base
LABEL org.opencontainers.image.title="ScriptService" \
    org.opencontainers.image.licenses="Apache-2.0"
# Scripts run as this user, which has no privileges. The service itself stays root, with only the
# capabilities that the compose file names (docs/adr/0010-root-in-the-container.md).
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
# Checks only that the server answers. If it does not, its keeper is about to start another. With -I
# and -S (isolated, no site-packages) the check takes a twentieth of a second.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/python3", "-IS", "-c", "import os, http.client as http; c = http.HTTPConnection('127.0.0.1', int(os.environ['SCRIPTSERVICE_PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# In exec form, so that `serve` becomes the keeper as process 1, which reaps orphans.
ENTRYPOINT ["/opt/scriptservice/bin/scriptservice"]
CMD ["serve"]
