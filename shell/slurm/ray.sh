#!/usr/bin/env bash
# A Ray cluster over the nodes of a Slurm job, a command in it, and its end: for training with --engine verl, and for
# data stages with --ray.
#   sbatch --nodes=2 --gpus-per-node=8 --exclusive shell/slurm/ray.sh pmem grpo --engine verl ...
#   sbatch --nodes=4 --gpus-per-node=8 --exclusive shell/slurm/ray.sh \
#     pmem judge questions.jsonl -m vllm:Qwen/Qwen3-4B --ray --workers 32 --gpus-per-worker 1 -o judged.jsonl
# The command runs on the first node, with RAY_ADDRESS set. All nodes must see its files and its Python environment, in
# whose PATH `ray` is. The cluster takes no orders without the job's own token.
#SBATCH --ntasks-per-node=1
set -euo pipefail
if [ $# -lt 1 ] || [ -z "${SLURM_JOB_NODELIST-}" ]; then
  sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
step=(srun --overlap --kill-on-bad-exit=1 --ntasks-per-node=1)
on_head=("${step[@]}" --nodes=1 --ntasks=1 --nodelist="$head")
first() { awk '{print $1}'; }
ip=$("${on_head[@]}" hostname --ip-address | first)
if [[ $ip = 127.* ]]; then # by /etc/hosts, where others can't reach it
  others=$("${on_head[@]}" hostname --all-ip-addresses | first)
  ip=${others:-$ip}
fi
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_ADDRESS="$ip:$((20000 + SLURM_JOB_ID % 20000))"
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

resources=(--num-cpus="${SLURM_CPUS_ON_NODE:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)
"${on_head[@]}" env -u RAY_ADDRESS \
  ray start --head --node-ip-address="$ip" --port="${RAY_ADDRESS##*:}" "${resources[@]}" &
if [ ${#nodes[@]} -gt 1 ]; then
  until ray status > /dev/null 2>&1; do
    [ -n "$(jobs -pr)" ] || { echo "Ray doesn't start on $head" >&2; exit 1; }
    sleep 1
  done
  "${step[@]}" --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --exclude="$head" \
    env -u RAY_ADDRESS ray start --address="$RAY_ADDRESS" "${resources[@]}" &
fi
python3 - "${#nodes[@]}" <<'PYTHON'
import sys, time
import ray

ray.init(log_to_driver=False, logging_level="ERROR")
until = time.monotonic() + 600
while (there := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[1]):
    if time.monotonic() > until:
        sys.exit(f"only {there} of {sys.argv[1]} nodes came within ten minutes")
    time.sleep(1)
PYTHON
"$@"
