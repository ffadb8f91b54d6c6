#!/usr/bin/env bash
# Trains on a SLURM cluster with one process per GPU (docs/pod.md).
#
#   CONFIG=vinet_dhf1k WORKDIR=/shared/runs/a sbatch --nodes=2 tools/launch/slurm.sh [--config.KEY=VALUE ...]
#   DRY_RUN=1 bash tools/launch/slurm.sh     # prints the command of the job and runs nothing
#
# Options on the command line of sbatch override these. Without GPUs: no --gpus-per-node, and one task per node.
#SBATCH --job-name=avsal
#SBATCH --nodes=1
# One process for each GPU; or one for each node (--ntasks-per-node=1), which takes all of its GPUs.
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
# For reading clips; docs/pod.md has the number to request.
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM to the processes (not to this script) 300 seconds before the end: they save and exit with 75.
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

: "${AVSAL:=avsal}"                   # the command, such as /shared/venv/bin/avsal
: "${CONFIG:=vinet_synthetic:mini}"   # the recipe
: "${WORKDIR:=runs/slurm}"            # on a file system that all nodes see
: "${MAX_RESTARTS:=100}"              # how often the job requeues itself
: "${DRY_RUN:=}"                      # if set, only print the command

# jax reads the address of process 0 from SLURM's variables. --kill-on-bad-exit=0 keeps SLURM from killing the other
# processes before they have saved, when the first one exits with 75.
command=(srun --kill-on-bad-exit=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-8}"
  "$AVSAL" train --config "$CONFIG" --workdir "$WORKDIR" "$@")
if [ -n "$DRY_RUN" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi

code=0
"${command[@]}" || code=$?
# scancel ends this script too, so a cancelled job is not requeued.
if [ "$code" = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$MAX_RESTARTS" ]; then
  echo "saved; job $SLURM_JOB_ID queues again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
