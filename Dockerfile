# nvae-codec on the CPU:
#   docker build -t nvae-codec .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/images" nvae-codec compress photo.png
FROM python:3.13-slim

COPY pyproject.toml MANIFEST.in README.md LICENSE LICENSES.md /src/
COPY nvae_codec /src/nvae_codec
COPY cli /src/cli
COPY models /src/models

# the CPU build of torch: the default one brings gigabytes of CUDA libraries
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.11" \
    && pip install --no-cache-dir /src \
    && rm -rf /src

USER 1000
WORKDIR /images
ENTRYPOINT ["nvae-codec"]
CMD ["--help"]
