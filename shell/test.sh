#!/usr/bin/env bash
# Install into .venv and run the checks and the test suite; arguments go to pytest.
#   bash shell/test.sh [PYTEST ARGUMENT]...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source shell/install.sh
install_pmem .venv local,dev
export PATH="$PWD/.venv/bin:$PATH"
ruff check .
ruff format --check .
mypy
exec python -m pytest -n "${PMEM_TEST_WORKERS:-2}" --dist worksteal "$@"
