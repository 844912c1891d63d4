# The image holds the binary and nothing else. It is there to be copied from:
#
#     FROM python:3.13-slim
#     COPY --from=belfry /belfry /usr/local/bin/belfry
#     COPY crontab /etc/my-jobs
#     ENTRYPOINT ["belfry", "serve", "--crontab", "/etc/my-jobs"]
#
# docs/container.md says the rest. Build: docker build -t belfry --build-arg VERSION=$(git describe --tags --always) .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
ARG VERSION=devel
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X belfry/internal/cli.Version=$VERSION" -o /belfry ./cmd/belfry

FROM scratch
# For publishing to S3 over TLS; time zones are in the binary.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /belfry /belfry
ENTRYPOINT ["/belfry"]
CMD ["--help"]
