# syntax=docker/dockerfile:1
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
# With .git, so that `scanlogin --version` names the commit.
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -tags timetzdata -ldflags '-s -w' -o /scanlogin ./cmd/scanlogin

# One static file and the certificate authorities that it needs to call WeChat; it
# writes nothing, so the container's file system can be read-only.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# busybox under this name is wget and nothing else: health checks run inside the container.
COPY --from=busybox:stable-musl /bin/busybox /bin/wget
COPY --from=build /scanlogin /scanlogin
USER 65532:65532
EXPOSE 8080
# The log format for machines, whatever is attached to the container.
ENV LOG_FORMAT=json
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9090/healthz"]
ENTRYPOINT ["/scanlogin"]
CMD ["serve"]
