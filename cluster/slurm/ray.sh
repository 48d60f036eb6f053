# What both scripts share: a Ray on the nodes of this Slurm job, one alt_ray job on it, and a stop that loses nothing.
# To be sourced. Knows nothing of what the job does.
#
# Not `ray symmetric-run`: when it ends it runs `ray stop`, which ends every Ray of this user on the node, other jobs' too.
# shellcheck shell=bash

# Make the folder of this job, and the environment that everything here shares.
prepare() {
    PATH="${ALT_RAY_VENV:-$PWD/.venv}/bin:$PATH"
    export RAY_TMPDIR="${SLURM_TMPDIR:-/tmp}/ray-$SLURM_JOB_ID" # short: Ray's sockets lie below it, and may have 107 characters
    mkdir -p "$RAY_TMPDIR"
    export OMP_WAIT_POLICY=passive # as the commands set it: workers get the environment of the Ray that starts them
    # Whoever reaches the ports needs the token; it is never on a command line, where other users of the node could read it.
    export RAY_AUTH_MODE=token
    RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
    export RAY_AUTH_TOKEN
}

# A port of this node that nobody uses: several jobs may share a node.
free_port() {
    python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

# Start Ray on this node, and wait until it answers. Sets RAY_ADDRESS, by which the job finds it.
start_head() {
    local host port client=()
    host=$(python -c 'import ray.util; print(ray.util.get_node_ip_address())')
    port=$(free_port)
    # Where Ray Client is installed it listens on port 10001, which another job on this node may have; where it isn't,
    # naming a port is an error.
    python -c 'import grpc' 2>/dev/null && client=(--ray-client-server-port="$(free_port)")
    srun --quiet --overlap --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" --output="$RAY_TMPDIR/head.log" \
        "${node[@]}" --head --port="$port" --temp-dir="$RAY_TMPDIR" --include-dashboard=false "${client[@]}" "${each_node[@]}" &
    local head=$!
    rays+=("$head")
    until (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; do
        if ! kill -0 "$head" 2>/dev/null; then
            echo "Ray did not start:" >&2
            cat "$RAY_TMPDIR/head.log" >&2
            exit 1
        fi
        sleep 1
    done
    export RAY_ADDRESS="$host:$port"
}

# Let the other nodes of the allocation join. The job itself waits until all of them are there (--wait-for-cpus).
start_workers() {
    local others=$((SLURM_JOB_NUM_NODES - 1))
    if ((others)); then
        srun --quiet --overlap --nodes="$others" --ntasks="$others" --ntasks-per-node=1 --exclude="$SLURMD_NODENAME" \
            --output="$RAY_TMPDIR/worker-%n.log" "${node[@]}" --address="$RAY_ADDRESS" "${each_node[@]}" &
        rays+=("$!")
    fi
}

rays=() # the processes that hold Ray on the nodes
# Ray on one node until SIGTERM, which is no error then; what it wrote there goes with it.
# shellcheck disable=SC2016 # expanded on the node
node=(bash -c 'trap "rm -rf \"$RAY_TMPDIR\"; exit 0" TERM; ray start --block "$@" & wait "$!"' ray)

# What Ray is told of each node: what Slurm gave this job, not what the node has; and ports that are free.
# shellcheck disable=SC2034 # used above
each_node=(
    --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}"
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0
)

# Run `python jobs/COMMAND.py ARGUMENTS`. SIGTERM (Slurm sends it before the time limit, see --signal in the scripts) lets the job
# commit what is finished; then this Slurm job is queued again, and goes on from there: the same --out does what is missing.
run_job() {
    local command=$1 status=0 stopped=
    shift
    python "jobs/$command.py" "$@" &
    local driver=$!
    trap 'stopped=1; kill -TERM "$driver" 2>/dev/null || true' TERM
    while :; do # a signal ends the wait, not the job
        wait "$driver" && status=0 || status=$?
        kill -0 "$driver" 2>/dev/null || break
    done
    trap - TERM
    stop_ray
    if [[ -n $stopped ]] && ((status != 0)); then
        requeue
    fi
    return "$status"
}

# End Ray on all nodes, rather than have Slurm end it, which it does half a minute later.
stop_ray() {
    scancel --quiet --signal=TERM "$SLURM_JOB_ID" || true # what srun started, not this script
    wait "${rays[@]}" 2>/dev/null || true
    rm -rf "$RAY_TMPDIR" || true
}

# Queue this Slurm job again, unless it has been so often that something else must be wrong.
requeue() {
    local most=${MAX_RESTARTS:-50}
    if ((${SLURM_RESTART_COUNT:-0} >= most)); then
        echo "stopped for the ${most}th time: not queued again (MAX_RESTARTS)" >&2
        return
    fi
    echo "stopped; queued again, to go on from here" >&2
    local name=$SLURM_JOB_ID
    [[ -n ${SLURM_ARRAY_JOB_ID:-} ]] && name="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    scontrol requeue "$name" || true # refused where the job was cancelled, as it should be
}
