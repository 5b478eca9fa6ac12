# shellcheck shell=bash
# Sourced by the scripts that submit jobs: succeeded JOB waits until a job has ended; its status is whether it was done.
# `sbatch --wait` can't tell a job that was never begun, since what it depends on failed, from one that was done.
succeeded() {
  local state
  while state=$(scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'); do
    case $state in
      COMPLETED) return 0 ;;
      PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | REQUEUED) sleep 2 ;;
      *) echo "job $1 ended: $state" >&2; return 1 ;;
    esac
  done
  echo "job $1: Slurm doesn't answer for it" >&2
  return 1
}
