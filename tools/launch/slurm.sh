#!/usr/bin/env bash
# Trains on a SLURM cluster, a process for each GPU; docs/pod.md tells the rest.
#
#   CONFIG=vinet_dhf1k WORKDIR=/shared/runs/a sbatch --nodes=2 tools/launch/slurm.sh [--config.KEY=VALUE ...]
#   DRY_RUN=1 bash tools/launch/slurm.sh     # prints the command of the job and runs nothing
#
# What stands on sbatch's command line wins over these. Without GPUs: leave out --gpus-per-node, one task a node.
#SBATCH --job-name=avsal
#SBATCH --nodes=1
# One process for each GPU; or one for each node (--ntasks-per-node=1), which takes all of its GPUs.
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
# For reading clips: docs/pod.md says how many are needed.
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM to the processes (not to this script) so many seconds before the end: they save, and leave with 75.
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

: "${AVSAL:=avsal}"                   # the command, as /shared/venv/bin/avsal
: "${CONFIG:=vinet_synthetic:mini}"   # the recipe
: "${WORKDIR:=runs/slurm}"            # on a file system that all nodes see
: "${MAX_RESTARTS:=100}"              # so often the job queues itself again
: "${DRY_RUN:=}"                      # anything: print the command only

# Who is process 0 and where, jax reads from SLURM's variables. Without --kill-on-bad-exit=0 the first process that
# has saved could end the others before they have.
command=(srun --kill-on-bad-exit=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-8}"
  "$AVSAL" train --config "$CONFIG" --workdir "$WORKDIR" "$@")
if [ -n "$DRY_RUN" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi

code=0
"${command[@]}" || code=$?
# scancel ends this script too, so what was cancelled does not come back.
if [ "$code" = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$MAX_RESTARTS" ]; then
  echo "saved; job $SLURM_JOB_ID queues again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
