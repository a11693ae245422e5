# An image of fashion-flow; docs/containers.md says how it is built, run and deployed.
# For machines with a GPU: docker build --build-arg LOCK=requirements-gpu.lock .
#
# The tag may get newer bytes. To pin them, too, take the digest that
# `docker buildx imagetools inspect python:3.12-slim-trixie` prints:
# --build-arg PYTHON=python:3.12-slim-trixie@sha256:...
ARG PYTHON=python:3.12-slim-trixie

FROM ${PYTHON} AS build
ARG LOCK=requirements.lock
WORKDIR /build
COPY ${LOCK} locked.txt
# Wheels only: nothing of what is downloaded runs, and nothing has to be compiled.
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
# Numbers, since Kubernetes can't tell from a name that a user is not root. Volumes that are mounted
# to /var/lib/fashion-flow for the first time get its owner.
RUN groupadd --gid 10001 fashion-flow \
    && useradd --uid 10001 --gid 10001 --create-home --no-log-init fashion-flow \
    && install --directory --owner=10001 --group=10001 /var/lib/fashion-flow
COPY --from=build /opt/fashion-flow /opt/fashion-flow
# What Keras downloads is kept; all else that is written outside /tmp lands in the home folder.
ENV PATH=/opt/fashion-flow/bin:${PATH} \
    HOME=/home/fashion-flow \
    PREFECT_HOME=/home/fashion-flow/.prefect \
    KERAS_HOME=/var/lib/fashion-flow/.keras \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/fashion-flow
USER 10001:10001
# No entry point: Prefect's workers give `prefect flow-run execute` as the command.
CMD ["fashion-flow", "--help"]
