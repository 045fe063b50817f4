# The server in a container: no training code, no client, no compiler. Targets: cpu, gpu.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# "s3" or "gcs" for repositories at a URL.
ARG STORES=""

FROM ${PYTHON_IMAGE} AS wheels
WORKDIR /src
COPY deploy/image/locks/build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/build && /opt/build/bin/pip install --require-hashes --only-binary :all: -r build.txt
COPY proto proto
COPY server server
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels ./proto ./server

FROM ${PYTHON_IMAGE} AS environment
WORKDIR /src
COPY deploy/image/install_wheels.sh deploy/image/locks ./
# The base image's pip installs into a virtual environment that has none itself.
RUN python -m venv --without-pip /opt/latentserve
ENV INSTALL="pip --python /opt/latentserve/bin/python install --no-compile --require-hashes --only-binary :all:"

FROM environment AS packages-cpu
ARG STORES
RUN --mount=type=cache,target=/root/.cache/pip \
    $INSTALL -r server-cpu.txt ${STORES:+-r $STORES.txt}
COPY --from=wheels /wheels /wheels
RUN sh install_wheels.sh /opt/latentserve /wheels

FROM environment AS packages-gpu
ARG STORES
RUN --mount=type=cache,target=/root/.cache/pip \
    $INSTALL -r server-gpu.txt ${STORES:+-r $STORES.txt}
COPY --from=wheels /wheels /wheels
RUN sh install_wheels.sh /opt/latentserve /wheels

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="latentserve-server" \
      org.opencontainers.image.description="A gRPC server for generative models with a latent space" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/latentserve/bin:$PATH \
    PYTHONUNBUFFERED=1
# Variables win over a YAML file: to listen elsewhere, set the variable.
ENV LATENTSERVE_REPOSITORY=/models \
    LATENTSERVE_LISTEN=0.0.0.0:50051 \
    LATENTSERVE_METRICS_LISTEN=0.0.0.0:9090
# onnxruntime's official builds otherwise report sessions and run times to their maker.
ENV ORT_DISABLE_TELEMETRY=1
# glibc would give the memory of every large batch back to the kernel and ask for it again: see docs/operations.md.
ENV MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=134217728
EXPOSE 50051 9090
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["latentserve-server"]

FROM runtime AS gpu
# Read by the NVIDIA container runtime, which mounts the driver; CUDA and cuDNN come with the Python packages.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/latentserve /opt/latentserve

# Last, and so what a build without --target makes.
FROM runtime AS cpu
COPY --from=packages-cpu /opt/latentserve /opt/latentserve
