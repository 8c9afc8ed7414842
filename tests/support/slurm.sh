#!/usr/bin/env bash
#
# A real Slurm of one machine for the tests: munge, slurmctld, and four nodes of 4 CPUs and 4000 MiB each, on
# loopback ports of its own. Needs root (it runs several users' jobs) and the packages munge, slurmctld, slurmd,
# slurm-client; no service manager.
#
#   slurm.sh up DIR [KEY=VALUE]...   start it in DIR (new or empty), wait until all nodes are idle; KEY=VALUE lines
#                                    go into slurm.conf in place of these here, e.g. MinJobAge=2
#   slurm.sh down DIR                cancel all jobs, stop everything, remove DIR
#   slurm.sh stop-ctld|start-ctld|restart-ctld DIR
#   slurm.sh node-down|node-up DIR NODE   take a node's daemon away (kill -9), bring it back
#   slurm.sh node-crash DIR NODE          take it away with what watches over its jobs; the jobs are the caller's to kill
#
# Its clients find it by SLURM_CONF=DIR/slurm.conf.
set -euo pipefail
umask 022
export LC_ALL=C PATH=/usr/sbin:/sbin:/usr/bin:/bin
nodes=(n1 n2 n3 n4)

die() { echo "slurm.sh: $*" >&2; exit 1; }
[ $# -ge 2 ] || { sed -n '3,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
action=$1 dir=$2
shift 2
case $dir in /*) ;; *) die "give the directory as an absolute path" ;; esac
[ "$(id -u)" = 0 ] || die "only root can start it"
client() { env -i PATH="$PATH" SLURM_CONF="$dir/slurm.conf" timeout 10 "$@"; }

# Field 22 of stat, counted after the name: with the pid it names one process for ever.
born() { local line; line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; line=${line##*) }; set -- $line; [ "$1" != Z ] && echo "${20}"; }
alive() { # NAME: its pid, when it is still the process that was started here
    local pid since
    [ -s "$dir/pids/$1" ] && read -r pid since < "$dir/pids/$1" && [ "$(born "$pid")" = "$since" ] && echo "$pid"
}
begin() { # NAME COMMAND...
    local name=$1
    shift
    setsid env -i -C "$dir" PATH="$PATH" HOME=/ SLURM_CONF="$dir/slurm.conf" "$@" </dev/null >>"$dir/log/$name.out" 2>&1 9>&- &
    echo "$! $(born $!)" > "$dir/pids/$name"
    disown
}
end() { # NAME [SIGNAL]
    local pid tries=0
    if pid=$(alive "$1"); then
        kill "-${2:-TERM}" "$pid" 2>/dev/null || true
        while alive "$1" >/dev/null && [ $((tries += 1)) -lt 100 ]; do sleep 0.05; done
        kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$dir/pids/$1"
}
await() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt "$until" ] || { tail -n 5 "$dir"/log/* >&2; die "gave up waiting for: $*"; }
        sleep 0.1
    done
}
answers() { client scontrol ping | grep -q 'is UP'; }
all_idle() { [ "$(client sinfo -h -N -o '%N %T' | sort -u | grep -c ' idle$')" = ${#nodes[@]} ]; }
known() { client sinfo -h -o %T >"$dir/run/states" && ! grep -q unk "$dir/run/states"; }
start_ctld() { alive slurmctld >/dev/null || begin slurmctld slurmctld -D -f "$dir/slurm.conf"; await 20 answers; }
start_node() { alive "$1" >/dev/null || begin "$1" slurmd -D -N "$1" -f "$dir/slurm.conf"; }
free_port() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

configure() { # KEY=VALUE...
    local port host line key
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        port=$((20000 + RANDOM % 10000))
        for key in 0 1 2 3 4; do free_port $((port + key)) || continue 2; done
        break
    done
    host=$(hostname -s)
    local -A own=()
    for line in "$@"; do own[${line%%=*}]=1; done
    {
        while read -r line; do
            [ -n "${own[${line%%=*}]:-}" ] || echo "$line"
        done <<CONF
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=300
InactiveLimit=0
SlurmdTimeout=10
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
CONF
        for line in "$@"; do echo "$line"; done
        for key in "${!nodes[@]}"; do
            echo "NodeName=${nodes[$key]} NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1 + key)) CPUs=4 RealMemory=4000 State=UNKNOWN"
        done
        echo "PartitionName=short Nodes=n1,n2 Default=YES MaxTime=01:00:00 DefaultTime=00:10:00 State=UP"
        echo "PartitionName=long Nodes=n3,n4 MaxTime=1-00:00:00 DefaultTime=01:00:00 State=UP"
    } > "$dir/slurm.conf"
}

up() {
    local program node
    for program in munged slurmctld slurmd sbatch; do
        command -v $program >/dev/null || die "$program is missing: install munge, slurmctld, slurmd and slurm-client"
    done
    [ ! -e "$dir/slurm.conf" ] || die "$dir is in use: down first"
    mkdir -p "$dir"/{run,log,state,spool,pids}
    chmod 755 "$dir" "$dir"/{run,log}
    configure "$@"
    (umask 077 && head -c 1024 /dev/urandom > "$dir/munge.key")
    begin munged munged --foreground --key-file="$dir/munge.key" --socket="$dir/run/munge.socket" \
        --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log" --seed-file="$dir/run/munge.seed"
    await 10 munge --socket="$dir/run/munge.socket" --no-input
    start_ctld
    for node in "${nodes[@]}"; do
        mkdir -p "$dir/spool/$node"
        start_node "$node"
    done
    await 30 all_idle
}

# Job steps outlive the daemon that started them. Theirs hold a log of ours open.
leftover_steps() { # [NODE]
    local fd
    for fd in /proc/[0-9]*/fd/*; do
        case $(readlink "$fd" 2>/dev/null) in "$dir"/log/"${1:-}"*) fd=${fd#/proc/}; echo "${fd%%/*}" ;; esac
    done | sort -u
}

down() {
    local node pid
    [ -d "$dir/pids" ] || return 0
    if alive slurmctld >/dev/null; then
        client squeue -h -o %A | sort -u | xargs -r -n 100 env SLURM_CONF="$dir/slurm.conf" timeout 10 scancel --signal=KILL --full 2>/dev/null || true
        client squeue -h -o %A | sort -u | xargs -r -n 100 env SLURM_CONF="$dir/slurm.conf" timeout 10 scancel 2>/dev/null || true
        for _ in $(seq 60); do [ -n "$(client squeue -h -t R,CG 2>/dev/null)" ] || break; sleep 0.05; done
    fi
    for node in "${nodes[@]}"; do end "$node"; done
    end slurmctld
    end munged
    for pid in $(leftover_steps); do kill -KILL "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}

case $action in
up) up "$@" ;;
down) down ;;
stop-ctld) end slurmctld ;;
start-ctld) start_ctld; await 30 known ;;
restart-ctld) end slurmctld; start_ctld; await 30 known ;;
node-down) end "$1" KILL ;;
node-crash)
    end "$1" KILL
    for pid in $(leftover_steps "$1."); do kill -KILL "$pid" 2>/dev/null || true; done
    ;;
node-up) start_node "$1"; await 30 known ;;
*) die "unknown action $action" ;;
esac
