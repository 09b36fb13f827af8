#!/bin/bash
# Is a container of `sconce run` what those of other engines are?
#
#     sudo scripts/check-runtimes.sh target/release/sconce
#
# One small image under Docker (with runc, and with crun), Podman (with crun, and with runc) and sconce;
# each says what it sees inside, and how it ends. Where sconce differs from one of them, the difference
# is a row of the table below, with its reason: one that is no row is an error, and so is a row that no
# peer needs. Needs docker.io, podman, runc, crun, skopeo and busybox-static. Starts an engine of its own, and
# ends it. An engine that cannot run a container here is said and left out.
set -uf

[ $# -eq 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
sconce=$(realpath "$1")

# fact | peers, as in a shell pattern | why sconce differs
allowed() {
    sed 's/#.*//; /^ *$/d' <<'TABLE'
Cap*, user.CapBnd   | docker*      | podman's set: Docker's without MKNOD, NET_RAW and AUDIT_WRITE
init                | *            | process 1 collects orphans always, which --init does elsewhere
exit.killed, exit.terminated | *   | so a command's own signals end it; alone as process 1 it ignores them
limit.*             | *            | as high as the machine allows: pinned buffers, RDMA, deep recursion
mount./             | *            | nodev: device files of an image are none
mount./dev          | podman*      | as Docker has it
masked./proc/interrupts | *        | of Docker's list since version 26; bookworm has 20.10 and Podman 4.3
env                 | podman*      | Podman adds TERM and container; Docker adds neither without a terminal
exit.user           | podman*      | 125, as Docker: the container could not be made
cgroup              | *            | a cgroup namespace on cgroup v1 too, where Docker and Podman share the machine's
readonly./sys/fs/cgroup | *        | with cgroup v1 a container sees no trees of it
TABLE
}

scratch=$(mktemp -d)
engine=
finish() {
    if [ -n "$engine" ]; then
        kill "$engine" 2>/dev/null
        wait "$engine" 2>/dev/null
    fi
    podman --root "$scratch/podman" --runroot "$scratch/podman-run" system reset --force >/dev/null 2>&1
    grep -o " $scratch[^ ]*" /proc/self/mountinfo | sort -r | xargs -r umount -l 2>/dev/null
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM
say() { printf '%s\n' "check-runtimes: $*"; }
cd "$scratch" || exit 1
export SCONCE_HOME=$scratch/store DOCKER_HOST="unix://$scratch/engine.sock"

dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" \
    --pidfile "$scratch/pid" --bridge=none --iptables=false --add-runtime "other=$(command -v crun)" \
    >"$scratch/log" 2>&1 &
engine=$!
for _ in $(seq 120); do
    docker version >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.5
done
docker version >/dev/null 2>&1 || { say 'dockerd does not answer:' >&2; tail -n 5 "$scratch/log" >&2; exit 1; }

# The image: busybox and what looks around.
mkdir -p root/bin root/etc root/tmp root/root
cp "$(command -v busybox)" root/bin/busybox
for name in sh cat ls id sleep sort sed head wc tr grep awk env touch true readlink; do
    ln -s busybox "root/bin/$name"
done
printf 'root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n' >root/etc/passwd
printf 'root:x:0:\nann:x:1000:\nvideo:x:44:ann\n' >root/etc/group
printf '#!/bin/sh\n' >root/bin/not-executable
cat >root/bin/facts <<'INSIDE'
#!/bin/sh
echo "groups $(id -G)"
echo "umask $(umask)"
sed -n 's/^\(CapEff\|CapBnd\|CapPrm\|CapInh\|CapAmb\|NoNewPrivs\|Seccomp\):[[:space:]]*/\1 /p' /proc/self/status
echo "init $(cat /proc/1/comm)"
echo "oom_score_adj $(cat /proc/self/oom_score_adj)"
echo "cgroup $(sed 's/^[^:]*:[^:]*://' /proc/self/cgroup | sort -u | tr '\n' ' ')"
echo "dev $(ls /dev | tr '\n' ' ')"
echo "fds $(ls /proc/self/fd | tr '\n' ' ')"
for path in /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats /proc/sched_debug \
    /proc/interrupts /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do
    if [ -d $path ]; then echo "masked.$path $(ls $path | wc -l)"
    elif [ -e $path ]; then echo "masked.$path $(head -c 1 $path 2>/dev/null | wc -c)"; fi
done
for path in /proc/sys /proc/bus /proc/fs /proc/irq /proc/sysrq-trigger /sys /sys/fs/cgroup; do
    echo "readonly.$path $(awk -v p=$path '$2 == p { split($4, o, ","); r = o[1] } END { print r }' /proc/mounts)"
done
for place in / /proc /dev /dev/pts /dev/shm /dev/mqueue /sys; do
    echo "mount.$place $(awk -v p=$place '$2 == p { print $4 }' /proc/mounts | tr , '\n' |
        grep -E '^(ro|rw|nosuid|nodev|noexec)$' | sort -u | tr '\n' ' ')"
done
sed 1d /proc/self/limits | sed 's/  \+/|/g' | awk -F '|' '{ gsub(" ", "_", $1); print "limit." $1, $2, $3 }'
env | sed 's/=.*//' | grep -v '^_$' | sort | tr '\n' ' ' | sed 's/^/env /'; echo
INSIDE
chmod +x root/bin/facts
tar --create --numeric-owner --owner=0 --group=0 --directory root . | docker import - facts:1 >/dev/null || exit 1
docker save -o image.tar facts:1 || exit 1
skopeo copy --quiet --insecure-policy docker-archive:image.tar oci:layout || exit 1

peers='docker docker-crun podman podman-runc'
run() { # ENGINE [OPTION...] -- COMMAND...
    local who=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    case $who in
    docker) docker run --rm --network host "${options[@]}" facts:1 "$@" ;;
    docker-crun) docker run --rm --network host --runtime other "${options[@]}" facts:1 "$@" ;;
    podman*)
        local runtime=crun
        [ "$who" = podman ] || runtime=runc
        # Podman asks for more than a machine without CAP_SYS_RESOURCE allows.
        podman --root "$scratch/podman" --runroot "$scratch/podman-run" --runtime "$runtime" \
            run --rm --network host --ulimit nofile=1024 --ulimit nproc=4096 "${options[@]}" facts:1 "$@"
        ;;
    sconce) "$sconce" run --gpus none --no-defaults "${options[@]}" oci:layout "$@" ;;
    esac
}

code() { # KEY ENGINE [OPTION...] -- COMMAND...
    local key=$1
    shift
    run "$@" >/dev/null 2>&1
    echo "exit.$key $?"
}

all() { # ENGINE: every fact of it
    local who=$1 client
    run "$who" -- facts
    run "$who" --user ann -- sh -c 'echo "user.groups $(id -G)"; sed -n "s/^\(CapEff\|CapBnd\|CapAmb\):[[:space:]]*/user.\1 /p" /proc/self/status'
    run "$who" --user 1000:1000 -- sh -c 'echo "ids.groups $(id -G)"'
    code status "$who" -- sh -c 'exit 3'
    code killed "$who" -- sh -c 'kill -KILL $$'
    code terminated "$who" -- sh -c 'kill -TERM $$; sleep 1'
    code not-found "$who" -- no-such-program
    code not-executable "$who" -- /bin/not-executable
    code folder "$who" -- /etc
    code option "$who" --no-such-option -- true
    code user "$who" --user eve -- true
    run "$who" -- sh -c 'trap "exit 42" TERM; touch /tmp/x; echo up; while :; do sleep 0.1; done' >up 2>/dev/null &
    client=$!
    for _ in $(seq 100); do grep -q up up && break; sleep 0.1; done
    # The function runs in a shell of its own: the signal is for what that started.
    pkill -TERM -P "$client" 2>/dev/null
    wait "$client"
    echo "exit.signal $?"
    : >up
}

all sconce >sconce.facts 2>sconce.errors
grep -q '^umask' sconce.facts || { say 'sconce runs no container:' >&2; cat sconce.errors >&2; exit 1; }
podman --root "$scratch/podman" --runroot "$scratch/podman-run" load --quiet -i image.tar >/dev/null 2>podman.errors
wrong=0
: >used
for who in $peers; do
    if ! run "$who" -- true 2>why; then
        say "$who cannot run a container here: $(head -n 1 why)"
        continue
    fi
    all "$who" >"$who.facts" 2>"$who.errors"
    same=0 said=0
    while read -r key; do
        mine=$(grep -F -- "$key " sconce.facts | grep -m1 "^$key " )
        theirs=$(grep -F -- "$key " "$who.facts" | grep -m1 "^$key ")
        if [ "$mine" = "$theirs" ]; then
            same=$((same + 1))
            continue
        fi
        reason=
        while IFS='|' read -r facts engines why; do
            for fact in ${facts//,/ }; do
                # shellcheck disable=SC2254 # they are patterns
                case $key in $fact) case $who in ${engines// /}) reason=$why; echo "$fact|${engines// /}" >>used ;; esac ;; esac
            done
        done < <(allowed)
        if [ -n "$reason" ]; then
            said=$((said + 1))
        else
            say "$who: $key: theirs '${theirs#"$key" }', ours '${mine#"$key" }'"
            wrong=$((wrong + 1))
        fi
    done < <(cut -d ' ' -f 1 sconce.facts "$who.facts" | sort -u)
    say "$who: $same facts the same, $said differ for a reason"
done
while IFS='|' read -r facts engines why; do
    for fact in ${facts//,/ }; do
        grep -qxF -- "$fact|${engines// /}" used || { say "no peer needs the row '$fact | $engines'"; wrong=$((wrong + 1)); }
    done
done < <(allowed)
[ $wrong -eq 0 ] || { say "$wrong differences without a reason"; exit 1; }
say 'every difference has its reason'
