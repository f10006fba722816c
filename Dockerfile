# The image of the program, with TLS and Spark: no root, no compiler, nothing writable.
#
#   docker build -t scrutin .
#   docker buildx build --platform linux/amd64,linux/arm64 -t scrutin .

# The manifests without the code, so that the layer with the dependencies is rebuilt only when these change.
FROM docker.io/library/rust:1.95-slim-bookworm AS manifests
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY crates crates
RUN find crates -mindepth 2 -maxdepth 2 ! -name Cargo.toml -exec rm -r {} + \
    && for crate in . crates/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
    && mkdir -p benches tests/it \
    && echo 'fn main() {}' | tee src/main.rs tests/it/main.rs >/dev/null \
    && for bench in $(sed -n '/^\[\[bench\]\]/{n;s/^name = "\(.*\)"/\1/p}' Cargo.toml); do touch "benches/$bench.rs"; done

FROM docker.io/library/rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ gcc libc6-dev libssl-dev make pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY --from=manifests /src ./
RUN cargo build --release --locked --all-features --bin scrutin

COPY crates crates
COPY src src
COPY migrations migrations
COPY elections elections
COPY layouts layouts
COPY schema schema
RUN find src crates -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --all-features --bin scrutin \
    && strip --strip-debug target/release/scrutin

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 scrutin \
    && useradd --uid 10001 --gid scrutin --no-create-home --home-dir /data --shell /usr/sbin/nologin scrutin \
    && install -d -m 1777 /data
COPY --from=build /src/target/release/scrutin /usr/local/bin/scrutin
COPY deploy/scrutin/ /usr/local/lib/scrutin/
COPY LICENSE /usr/share/doc/scrutin/
# With umask 077, a clone's files would be unreadable to others in the image too.
RUN chmod -R a+rX /usr/local/lib/scrutin /usr/share/doc/scrutin
ENV SCRUTIN_DATA_DIR=/data SCRUTIN_LISTEN=0.0.0.0:8080
USER 10001:10001
EXPOSE 8080
# For commands that serve the page: `serve`, and `count --serve`.
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=6 CMD ["scrutin", "health"]
ENTRYPOINT ["scrutin"]
CMD ["serve"]
