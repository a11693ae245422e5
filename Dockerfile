# An image of fashion-flow; docs/containers.md explains how to build, run and deploy it.
# For machines with a GPU: docker build --build-arg LOCK=requirements-gpu.lock .
#
# The tag's image is updated from time to time. To pin its bytes, too, pass the digest that
# `docker buildx imagetools inspect python:3.12-slim-trixie` prints:
# --build-arg PYTHON=python:3.12-slim-trixie@sha256:...
ARG PYTHON=python:3.12-slim-trixie

FROM ${PYTHON} AS build
ARG LOCK=requirements.lock
WORKDIR /build
COPY ${LOCK} locked.txt
# Wheels only: installing them runs no downloaded code and compiles nothing.
RUN python -m venv --without-pip /opt/fashion-flow \
    && pip --python /opt/fashion-flow/bin/python install \
        --no-cache-dir --require-hashes --only-binary=:all: --requirement locked.txt
COPY pyproject.toml README.md LICENSE ./
COPY tasks tasks
COPY flows flows
RUN pip --python /opt/fashion-flow/bin/python install \
        --no-cache-dir --no-index --no-deps --no-build-isolation .

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fashion-flow" \
    org.opencontainers.image.description="Chollet's deep-learning workflow as a Prefect flow" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# Numeric IDs, because Kubernetes can't tell from a name that a user is not root. A new volume that
# is mounted to /var/lib/fashion-flow takes over the owner of this folder.
RUN groupadd --gid 10001 fashion-flow \
    && useradd --uid 10001 --gid 10001 --create-home --no-log-init fashion-flow \
    && install --directory --owner=10001 --group=10001 /var/lib/fashion-flow
COPY --from=build /opt/fashion-flow /opt/fashion-flow
# Keras keeps its downloads in the volume. Other files outside /tmp are written to the home folder.
ENV PATH=/opt/fashion-flow/bin:${PATH} \
    HOME=/home/fashion-flow \
    PREFECT_HOME=/home/fashion-flow/.prefect \
    KERAS_HOME=/var/lib/fashion-flow/.keras \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/fashion-flow
USER 10001:10001
# No entry point, because Prefect's workers set the command to `prefect flow-run execute`.
CMD ["fashion-flow", "--help"]
