#!/usr/bin/env bash
# Install into .venv and run the checks and the test suite; arguments go to pytest.
#   bash shell/test.sh [PYTEST ARGUMENT]...
#   bash shell/test.sh vllm [PYTEST ARGUMENT]...   what needs vLLM, in an environment of its own (.venv-vllm)
#   bash shell/test.sh mem0 [PYTEST ARGUMENT]...   what needs mem0ai, in one of its own, too (.venv-mem0)
#   bash shell/test.sh ray [PYTEST ARGUMENT]...    what needs Ray, likewise (.venv-ray)
#   bash shell/test.sh verl [PYTEST ARGUMENT]...   what needs verl or Ray, likewise (.venv-verl)
#   bash shell/test.sh slurm [PYTEST ARGUMENT]...  the batch scripts, in that one; Debian's shellcheck, slurmctld, slurmd,
#                                                  slurm-client and munge have to be there, and root to start them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source shell/install.sh
if [ "${1-}" = vllm ]; then
  install_vllm .venv-vllm
  exec .venv-vllm/bin/python -m pytest -m vllm tests/test_vllm*.py "${@:2}"
fi
if [ "${1-}" = mem0 ]; then
  install_pmem .venv-mem0 dev
  .venv-mem0/bin/python -m pip install -q 'mem0ai>=2.2.1,<3'
  exec .venv-mem0/bin/python -m pytest tests/test_adapters.py "${@:2}"
fi
if [ "${1-}" = ray ]; then
  install_pmem .venv-ray local,dev,ray
  exec .venv-ray/bin/python -m pytest tests/test_ray.py "${@:2}"
fi
if [ "${1-}" = verl ] || [ "${1-}" = slurm ]; then
  install_pmem .venv-verl verl,dev
  tests=(tests/test_slurm.py)
  [ "$1" = slurm ] || tests=(-m "verl or ray" tests/test_verl_*.py tests/test_ray.py)
  # verl leaves event loops behind; what is not ours to close is no error
  exec .venv-verl/bin/python -m pytest -W ignore::pytest.PytestUnraisableExceptionWarning "${tests[@]}" "${@:2}"
fi
install_pmem .venv local,train,dev
export PATH="$PWD/.venv/bin:$PATH"
ruff check .
ruff format --check .
mypy
exec python -m pytest -n "${PMEM_TEST_WORKERS:-2}" --dist worksteal "$@"
