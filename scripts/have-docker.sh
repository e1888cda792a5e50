#!/usr/bin/env bash
# Succeeds when containers can be run here: a client, an engine that answers, and Compose.
set -euo pipefail
command -v docker >/dev/null || exit 1
timeout 20 docker info >/dev/null 2>&1 || exit 1
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null
