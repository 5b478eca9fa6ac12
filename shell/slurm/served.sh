#!/usr/bin/env bash
# A model server as one Slurm job, and what asks it as another: it waits until the server answers, gets its address as
# OPENAI_BASE_URL, and the server ends with it.
#   bash shell/slurm/served.sh [--wait] SERVER COMMAND [ARGUMENT]...
#   PMEM_SERVER_SBATCH="--gpus=1 --time=12:00:00" bash shell/slurm/served.sh 'vllm serve Qwen/Qwen3-4B --port "$PORT"' \
#     pmem eval questions.jsonl --histories histories.jsonl -m openai:Qwen/Qwen3-4B -o results.jsonl
# SERVER     a line of shell that serves the OpenAI API at $PORT on all addresses, under /v1
# COMMAND    what asks it, with its arguments
# --wait     until COMMAND has ended; its status
# Environment: PMEM_SERVER_SBATCH, PMEM_CLIENT_SBATCH: options of sbatch; PMEM_SERVED=DIR: for logs and the address, a
# folder that all nodes see (default: served).
set -euo pipefail

serve() { # FOLDER SERVER
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
  echo "http://$(hostname):$port/v1" > "$1/$SLURM_JOB_ID.url"
  PORT=$port exec bash -c "$2"
}

ask() { # FOLDER SERVERJOB COMMAND ARGUMENT...
  local file=$1/$2.url server=$2
  shift 2
  # shellcheck disable=SC2064 # the job's number as it is now
  trap "scancel $server" EXIT
  until [ -s "$file" ] && curl -s -o /dev/null "$(cat "$file")/models"; do
    [ -n "$(squeue -h -j "$server" -t pending,configuring,running 2>/dev/null)" ] || {
      echo "the server, job $server, has ended" >&2
      return 1
    }
    sleep 2
  done
  OPENAI_BASE_URL=$(cat "$file") OPENAI_API_KEY=${OPENAI_API_KEY:-none} "$@"
}

case ${PMEM_SERVED_JOB-} in
  serve) serve "$@"; exit ;;
  ask) ask "$@"; exit ;;
  stop) scancel "$1"; exit ;;
esac

# shellcheck source=shell/slurm/waiting.sh
source "$(dirname "${BASH_SOURCE[0]}")/waiting.sh"
wait=
if [ "${1-}" = --wait ]; then
  wait=1
  shift
fi
if [ $# -lt 2 ]; then
  sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
folder=$(realpath -m "${PMEM_SERVED:-served}")
mkdir -p "$folder"
read -ra of_server <<< "${PMEM_SERVER_SBATCH-}"
read -ra of_client <<< "${PMEM_CLIENT_SBATCH-}"
submit() { sbatch --parsable --output="$folder/%j.log" "$@"; }
server=$(PMEM_SERVED_JOB=serve submit --job-name=server "${of_server[@]}" "${BASH_SOURCE[0]}" "$folder" "$1")
server=${server%%;*}
shift
client=$(PMEM_SERVED_JOB=ask submit --job-name=client "${of_client[@]}" --dependency="after:$server" \
  "${BASH_SOURCE[0]}" "$folder" "$server" "$@")
client=${client%%;*}
# however the client ends, if its node dies, too
PMEM_SERVED_JOB=stop submit --job-name="stop server" --dependency="afterany:$client" "${BASH_SOURCE[0]}" "$server" \
  > /dev/null
echo "job $server serves, job $client asks; logs in $folder" >&2
[ -z "$wait" ] || succeeded "$client"
