# One image for every process of Mailroom; docker-compose.yml says which command it runs.
#
# The base is glibc, because the wheels that requirements.lock pins are built for it. It is named by its tag: its digest
# could not be looked up where this file was written. Pin it (python:3.13-slim-trixie@sha256:...) when you build for
# production.

FROM python:3.13-slim-trixie AS build
WORKDIR /build
RUN ["python", "-m", "venv", "/opt/mailroom"]
COPY requirements.lock ./
RUN ["/opt/mailroom/bin/pip", "install", "--no-cache-dir", "--only-binary=:all:", "--require-hashes", "-r", "requirements.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY mailroom ./mailroom
COPY gateway ./gateway
COPY worker ./worker
COPY cli ./cli
RUN ["/opt/mailroom/bin/pip", "install", "--no-cache-dir", "--no-deps", "--no-build-isolation", "."]

FROM python:3.13-slim-trixie
ENV PATH=/opt/mailroom/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A new volume takes over owner and mode of the folder it is mounted on, so each of them is there and ours.
RUN install -d -o 10001 -g 10001 -m 0750 \
        /srv/mailroom/attachments /srv/mailroom/data /srv/mailroom/secrets \
    && install -d -o 10001 -g 10001 -m 0755 /srv/mailroom/database /srv/mailroom/broker
COPY --from=build /opt/mailroom /opt/mailroom
COPY --chmod=0555 deploy/prepare.py /opt/mailroom/prepare.py
WORKDIR /srv/mailroom
USER 10001:10001
CMD ["mailroom", "--help"]
