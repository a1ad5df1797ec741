# The image of `signalbox`: what requirements-run.lock names, hashes checked, and our package; nothing to build with.
FROM python:3.12-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build

# the libraries first: they change less often than our code
COPY requirements-run.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/signalbox \
    && pip --python /opt/signalbox/bin/python install --only-binary :all: --no-deps --require-hashes -r requirements-run.lock
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --only-binary :all: --no-deps --require-hashes -r requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY schemas ./schemas
COPY models ./models
COPY operators ./operators
COPY sinks ./sinks
COPY dataflows ./dataflows
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /build/wheels . \
    && pip --python /opt/signalbox/bin/python install --no-deps --no-index /build/wheels/*.whl


FROM python:3.12-slim

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="signalbox" \
      org.opencontainers.image.description="Trading signals from streams, and backtests that agree with them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# the folders are for this account alone: who can write to them can run code in the engine
RUN groupadd --gid 10001 signalbox \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /var/lib/signalbox --shell /usr/sbin/nologin signalbox \
    && install --directory --owner=10001 --group=10001 --mode=0700 \
        /var/lib/signalbox /var/lib/signalbox/recovery /var/lib/signalbox/archive /var/cache/signalbox

COPY --from=build /opt/signalbox /opt/signalbox

# compiled kernels are kept below XDG_CACHE_HOME: mount a volume at /var/cache/signalbox where the root is read-only
ENV PATH=/opt/signalbox/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/var/cache

USER 10001:10001
WORKDIR /var/lib/signalbox
STOPSIGNAL SIGTERM

# of a run with the name `live`; the first start compiles kernels for about half a minute
HEALTHCHECK --interval=30s --timeout=15s --start-period=3m --retries=3 \
    CMD ["signalbox", "status", "--check", "--recovery", "/var/lib/signalbox/recovery", "--run-id", "live"]

ENTRYPOINT ["signalbox"]
CMD ["--help"]
