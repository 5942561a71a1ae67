# The gateway's image: `docker build -t email-gateway .`, then `docker run email-gateway api|worker|migrate`.
#
# Debian's slim Python rather than a distroless one: the wheels are built for glibc, the interpreter is the
# one that CI tests, and it gets Debian's security updates by its tag. Nothing in it needs a shell: the
# entry point, the health check and every command are exec forms, so a policy may forbid /bin/sh.
# It runs with a read-only root file system: the gateway writes nothing but what PostgreSQL keeps.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
# The same path in both stages: a virtual environment's scripts name their interpreter by it.
WORKDIR /app
RUN ["python", "-m", "venv", ".venv"]
# The locks first, so that a change of source does not install every package again.
COPY requirements/build.lock requirements/run.lock requirements/
RUN [".venv/bin/python", "-m", "pip", "install", "--only-binary", ":all:", "--require-hashes", "-r", "requirements/build.lock"]
RUN [".venv/bin/python", "-m", "pip", "install", "--only-binary", ":all:", "--require-hashes", "-r", "requirements/run.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN [".venv/bin/python", "-m", "pip", "install", "--no-build-isolation", "--no-deps", "."]

FROM ${PYTHON_IMAGE}
COPY --from=build /app/.venv /app/.venv
# Numeric, so that Kubernetes can see by itself that it is not root (runAsNonRoot).
USER 10001:10001
# In a container only the container's own network sees it; publish the port where you want it.
ENV API_HOST=0.0.0.0 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 8025
# Of the api. A worker has nothing to ask, and ends when it cannot work: run it with --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["/app/.venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8025/v1/health/readyz', timeout=2)"]
ENTRYPOINT ["/app/.venv/bin/email-gateway"]
CMD ["api"]
