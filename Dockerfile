# The server of voxelry, as a user without rights. docs/how-to/run-in-containers.md says how to run it.
#   docker build --tag voxelry .                                                          on processors
#   docker build --tag voxelry:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .     on GPUs (PyTorch brings CUDA)
FROM python:3.11.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python -m venv /opt/voxelry
COPY constraints.txt ./
RUN /opt/voxelry/bin/pip install --no-cache-dir --constraint constraints.txt --index-url "$TORCH_INDEX" torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/voxelry/bin/pip install --no-cache-dir --constraint constraints.txt '.[dicom,hub,serve]'

FROM python:3.11.11-slim-bookworm
RUN groupadd --gid 10001 voxelry \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/voxelry --shell /usr/sbin/nologin voxelry \
    && install --directory --owner voxelry --group voxelry /var/lib/voxelry
COPY --from=build /opt/voxelry /opt/voxelry
ENV PATH=/opt/voxelry/bin:$PATH \
    HOME=/var/lib/voxelry \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/voxelry
VOLUME /var/lib/voxelry
EXPOSE 8000 11112
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["voxelry", "serve"]
CMD ["nuclei", "--host", "0.0.0.0", "--port", "8000", "--jobs", "/var/lib/voxelry/jobs"]
