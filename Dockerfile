# The image that every part of Stowage runs: one program, the C library it is linked with, and certificate authorities.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/stowage:VERSION .
#
# Each platform builds for itself, so there is no cross compiler to keep in step: give buildx a native builder for each, or
# let it emulate one, slowly. Both base images can come from your own registry:
#
#   --build-arg RUST_IMAGE=registry.lan/rust:1.95-bookworm --build-arg RUNTIME_IMAGE=registry.lan/cc-debian12
#
# The tags below move. A build that is to be repeated names both images by digest (`rust@sha256:…`), in the same arguments.
#
# Besides them the build needs crates.io or a mirror of it, nothing else. `cargo xtask image-proof` runs these very steps without
# a container engine.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:latest

# Manifests and empty programs. What is copied from here changes only when a dependency does, and so does the layer that
# builds the dependencies, although this stage runs anew after every change.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY xtask xtask
COPY e2e e2e
RUN find . -type f ! -name 'Cargo.*' ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -name build.rs -delete && \
    find . -type d -empty -delete && \
    for file in $(find . -name lib.rs); do : > "$file"; done && \
    for file in $(find . -name main.rs -o -name build.rs); do echo 'fn main() {}' > "$file"; done

FROM ${RUST_IMAGE} AS build
WORKDIR /source
COPY --from=manifests /source ./
RUN cargo build --release --locked --package stowage
COPY proto proto
COPY crates crates
# Newer than what was built from the empty programs, whatever the time they were committed.
RUN find crates -name '*.rs' -exec touch {} + && \
    cargo build --release --locked --package stowage && \
    install -D -m 0755 target/release/stowage /out/usr/bin/stowage

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stowage" \
      org.opencontainers.image.description="Mounts OCI artifacts as read-only volumes, without unpacking" \
      org.opencontainers.image.source="https://github.com/stowage-dev/stowage" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/usr/bin/stowage /usr/bin/stowage
ENTRYPOINT ["/usr/bin/stowage"]
