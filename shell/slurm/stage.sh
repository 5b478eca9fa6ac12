#!/usr/bin/env bash
# A data stage as a Slurm job array: each task makes one shard of the input, a last job joins them in order.
#   bash shell/slurm/stage.sh [--wait] SHARDS OUTPUT STAGE FILE [ARGUMENT]...
#   PMEM_SBATCH="--gpus=1 --cpus-per-task=8 --time=12:00:00" bash shell/slurm/stage.sh \
#     16 judged.jsonl judge questions.jsonl -m vllm:Qwen/Qwen3-4B
# SHARDS     so many tasks; a persona's records stay together
# OUTPUT     what the stage would write with -o; OUTPUT.rejects.jsonl is joined, too, if anything is rejected
# ARGUMENT   as for `pmem STAGE`, but no -o, --rejects, --shard, --cache. In other names of files that are written, %s
#            stands for the shard's own name: `--dropped %s.dropped.jsonl` comes to OUTPUT.dropped.jsonl
# --wait     until all is joined (status 0), or can't be
# Environment: PMEM_SBATCH: options of sbatch for the array (or Slurm's own SBATCH_... variables).
# Shards, their caches and logs lie in OUTPUT.shards, which all nodes must see. Run again after a failure: only what is
# missing is made, from where it broke off.
set -euo pipefail
shopt -s nullglob

made() { # NAME of a shard: pmem renames each .part when all is in it, so one that is left was between two renames
  [ -e "$1.jsonl" ] && ! compgen -G "$1.*.part" > /dev/null
}

join() { # OUTPUT SHARDS: for each kind of file that shards have, all of them in order
  local output=$1 shards=$2 shard kind
  for shard in $(seq -f %05.0f "$shards"); do
    made "$output.shards/$shard" || { echo "$output.shards/$shard.jsonl is missing" >&2; return 1; }
  done
  for kind in "$output.shards"/00001*.jsonl; do
    kind=${kind#"$output.shards"/00001} # .jsonl, .rejects.jsonl
    cat "$output.shards"/[0-9][0-9][0-9][0-9][0-9]"$kind" > "$output$kind.part"
    if [ "$kind" = .jsonl ]; then
      continue
    elif [ -s "$output$kind.part" ]; then
      mv "$output$kind.part" "$output$kind"
    else
      rm "$output$kind.part"
    fi
  done
  mv "$output.jsonl.part" "$output" # the last: it says that all is there
}

make() { # OUTPUT SHARDS STAGE ARGUMENT...: the shard of this task
  local output=$1 of=$2 status=0 name
  name=$output.shards/$(printf %05d "$SLURM_ARRAY_TASK_ID")
  shift 2
  "$PMEM" "${@//%s/$name}" --shard "$SLURM_ARRAY_TASK_ID/$of" --cache "$name.sqlite" \
    --rejects "$name.rejects.jsonl" -o "$name.jsonl" || status=$?
  [ "$status" = 3 ] || return "$status" # done, some records were rejected
}

case ${PMEM_SHARD_JOB-} in
  shard) make "$@"; exit ;;
  joining) join "$@"; exit ;;
esac

# shellcheck source=shell/slurm/waiting.sh
source "$(dirname "${BASH_SOURCE[0]}")/waiting.sh"
wait=
if [ "${1-}" = --wait ]; then
  wait=1
  shift
fi
if [ $# -lt 4 ] || ! [[ $1 =~ ^[1-9][0-9]{0,4}$ ]]; then
  sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
shards=$1 output=$(realpath -m "$2")
shift 2
PMEM=${PMEM:-$(command -v pmem)} || { echo "pmem is not installed, or not on PATH" >&2; exit 1; }
mkdir -p "$output.shards"
command="$shards shards of: pmem $*"
if [ "$(cat "$output.shards/command" 2>/dev/null || echo "$command")" != "$command" ]; then
  printf '%s.shards holds %s\nRemove it, or name another OUTPUT.\n' "$output" "$(cat "$output.shards/command")" >&2
  exit 1
fi
echo "$command" > "$output.shards/command"
missing=$(for number in $(seq "$shards"); do
  made "$output.shards/$(printf %05d "$number")" || echo "$number"
done | paste -sd,)
if [ -z "$missing" ]; then
  join "$output" "$shards"
  echo "all shards are made: joined"
  exit
fi
export PMEM
read -ra options <<< "${PMEM_SBATCH-}"
array=$(PMEM_SHARD_JOB=shard sbatch --parsable --job-name="pmem $1" --array="$missing" \
  --output="$output.shards/%05a.log" "${options[@]}" "${BASH_SOURCE[0]}" "$output" "$shards" "$@")
array=${array%%;*}
echo "job $array makes shards $missing, logs in $output.shards" >&2
joining=$(PMEM_SHARD_JOB=joining sbatch --parsable --job-name="pmem join" --dependency="afterok:$array" \
  --kill-on-invalid-dep=yes --output="$output.shards/join.log" "${BASH_SOURCE[0]}" "$output" "$shards")
[ -z "$wait" ] || succeeded "${joining%%;*}"
