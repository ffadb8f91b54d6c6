#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud with one process per machine (docs/pod.md).
#
#   make wheel
#   PROJECT=mine ZONE=us-west4-a SHARE=10.0.0.2:/share tools/launch/tpu_pod.sh create install train [-- --config.KEY=VALUE ...]
#
# Runs the given steps in order (default: create install train):
#   create    requests the slice and waits until it is active
#   install   installs the wheel on all machines and mounts SHARE
#   train     trains; continues if ssh disconnects, and saves when a machine shuts down
#   log       shows the output of process 0
#   stop      sends SIGTERM: all processes save and exit
#   delete    releases the slice
# With DRY_RUN=1 the commands are printed and not run.
set -euo pipefail

: "${PROJECT:?is the name of a Google Cloud project}"
: "${ZONE:?is a zone with TPUs, as us-west4-a}"
: "${SHARE:=}"                                    # for data and runs: an NFS share, as 10.0.0.2:/share
: "${NAME:=avsal}"                                # of the queued resource and of its node
: "${ACCELERATOR_TYPE:=v5litepod-16}"             # 16 chips on 4 machines
: "${RUNTIME_VERSION:=v2-alpha-tpuv5-lite}"       # must match the accelerator type
: "${SPOT:=}"                                     # if set: cheaper, but Google may reclaim it
: "${WHEEL:=$(printf '%s' dist/avsal_jax-*.whl)}" # by `make wheel`
: "${MOUNT:=/mnt/avsal}"                          # where SHARE is mounted
: "${PREPARED:=$MOUNT/prepared}"                  # by `avsal prepare --output`
: "${WORKDIR:=$MOUNT/runs/tpu}"                   # on the share, since all machines write checkpoints
: "${CONFIG:=vinet_synthetic:mini}"               # the recipe
: "${BATCH:=16}"                                  # a multiple of the number of chips
: "${POLL_SECONDS:=30}"                           # between checks whether the slice is active
: "${DRY_RUN:=}"

where=(--project="$PROJECT" --zone="$ZONE")

run() {
  if [ -n "$DRY_RUN" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_machines() { # WHICH COMMAND; all at once, because processes wait for each other
  run gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker="$1" --batch-size=all --command="$2"
}

state() {
  gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" --format='value(state.state)'
}

create() {
  local options=(--node-id="$NAME" --accelerator-type="$ACCELERATOR_TYPE" --runtime-version="$RUNTIME_VERSION")
  if [ -n "$SPOT" ]; then options+=(--spot); fi
  if [ -n "$DRY_RUN" ] || ! state >/dev/null 2>&1; then
    run gcloud compute tpus queued-resources create "$NAME" "${where[@]}" "${options[@]}"
  fi
  if [ -n "$DRY_RUN" ]; then return; fi
  local now
  until now=$(state) && [ "$now" = ACTIVE ]; do
    case "$now" in
      FAILED | SUSPENDING | SUSPENDED | DELETING)
        echo "$NAME is $now; delete it and create it again" >&2
        return 1
        ;;
    esac
    echo "$NAME is ${now:-not known yet}"
    sleep "$POLL_SECONDS"
  done
}

install() {
  : "${SHARE:?is an NFS share for data and runs, as 10.0.0.2:/share}"
  if [ -z "$DRY_RUN" ] && [ ! -f "$WHEEL" ]; then
    echo "WHEEL is one wheel, as make wheel puts into dist/; got $WHEEL" >&2
    return 2
  fi
  run gcloud compute tpus tpu-vm scp "$WHEEL" "$NAME:" "${where[@]}" --worker=all
  local wheel share mount
  printf -v wheel '%q' "$(basename "$WHEEL")[train,tpu]"
  printf -v share '%q' "$SHARE"
  printf -v mount '%q' "$MOUNT"
  # The Python of the machines may be too old for jax; uv installs another.
  on_machines all "set -e
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 ~/avsal
cd ~ && .local/bin/uv pip install --quiet --python avsal/bin/python ./$wheel
command -v mount.nfs >/dev/null || { sudo apt-get update -qq && sudo apt-get install -y -qq nfs-common; }
sudo mkdir -p $mount && { mountpoint -q $mount || sudo mount -t nfs $share $mount; }"
}

train() { # [--config.KEY=VALUE ...]
  local arguments
  printf -v arguments '%q ' train --config "$CONFIG" --workdir "$WORKDIR" \
    --config.data.root="$PREPARED" --config.data.batch="$BATCH" "$@"
  # A unit of systemd outlives ssh and gets SIGTERM when the machine shuts down. libtpu locks memory.
  # shellcheck disable=SC2016 # $(id -u) and $HOME are those of the machine
  on_machines all 'sudo systemd-run --unit=avsal --wait --collect --quiet'\
' --property=TimeoutStopSec=300 --property=LimitMEMLOCK=infinity --uid="$(id -u)" "$HOME"/avsal/bin/avsal '"$arguments"
}

steps=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  steps+=("$1")
  shift
done
if [ $# -gt 0 ]; then shift; fi
for step in "${steps[@]:-}"; do
  case "$step" in
    create | install | train | log | stop | delete | '') ;;
    *)
      echo "steps are create, install, train, log, stop and delete; got $step" >&2
      exit 2
      ;;
  esac
done
if [ ${#steps[@]} = 0 ]; then steps=(create install train); fi

for step in "${steps[@]}"; do
  case "$step" in
    create) create ;;
    install) install ;;
    train) train "$@" ;;
    log) on_machines 0 'sudo journalctl --unit=avsal --follow --output=cat' ;;
    stop) on_machines all 'sudo systemctl stop avsal' ;;
    delete) run gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force ;;
  esac
done
