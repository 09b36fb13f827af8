#!/bin/bash
# Is `sconce oci` to podman what runc and crun are?
#
#     sudo scripts/check-oci.sh target/release/sconce
#
# podman does each row with sconce and with the runtimes of this machine, in the same run; what it prints and its
# exit code are held beside each other. Where they differ both are shown, and the end is 1, but for the
# differences of the table below, each with its reason. Needs podman, busybox-static, and runc or crun. A runtime that
# starts nothing here is said and left out: crun takes no machine with cgroup v1 and v2 at once.
set -uf

[ $# -eq 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
sconce=$(realpath "$1")

# row | peers, as in a shell pattern | why sconce differs
allowed() {
    sed 's/#.*//; /^ *$/d' <<'TABLE'
identity          | * | no CAP_MKNOD under cgroup v2 (docs/oci-runtime.md)
user              | * | no CAP_MKNOD under cgroup v2
user_capabilities | * | no CAP_MKNOD under cgroup v2
exec_code         | * | no CAP_MKNOD under cgroup v2
exec_user         | * | no CAP_MKNOD under cgroup v2
mounts            | * | nodev on the root under cgroup v2
device_denied     | * | mknod is refused under cgroup v2, where others refuse to open what it makes
TABLE
}

scratch=$(mktemp -d /tmp/check-oci.XXXXXX)
finish() {
    for peer in sconce runc crun; do
        podman_of "$peer" rm --all --force --time 0 >/dev/null 2>&1
    done
    podman --root "$scratch/podman" --runroot "$scratch/run" --storage-driver vfs system reset --force >/dev/null 2>&1
    grep -o " $scratch[^ ]*" /proc/self/mountinfo | sort -r | xargs -r umount -l 2>/dev/null
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM
say() { printf '%s\n' "check-oci: $*"; }
cd "$scratch" || exit 1
ln -s "$sconce" sconce-oci

# Limits that a root without CAP_SYS_RESOURCE may set.
cat >containers.conf <<'CONF'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
pids_limit = 0
CONF
export CONTAINERS_CONF=$scratch/containers.conf

podman_of() {
    local runtime
    case $1 in
    sconce) runtime=$scratch/sconce-oci ;;
    *) runtime=$(command -v "$1" || echo "/usr/sbin/$1") ;;
    esac
    shift
    podman --root "$scratch/podman" --runroot "$scratch/run" --storage-driver vfs \
        --cgroup-manager cgroupfs --events-backend file --runtime "$runtime" "$@"
}

mkdir -p root/bin root/etc root/tmp root/root
cp "$(command -v busybox)" root/bin/busybox
for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "root/bin/$name"; done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n' >root/etc/passwd
printf 'root:x:0:\nuser:x:1000:\n' >root/etc/group
chmod 1777 root/tmp
tar -C root -c . | podman_of sconce import - bb:latest >/dev/null 2>&1 || { say 'podman makes no image' >&2; exit 1; }

run() { # PEER OPTIONS... IMAGE COMMAND...
    local peer=$1
    shift
    set -- --network none "$@"
    podman_of "$peer" run "$@"
}
with_terminal() { script -qec "$(printf '%q ' "$@")" /dev/null </dev/null | tr -d '\r' | sed 's/\^[@D]//g; s/[\x00\x04\x08]//g'; return "${PIPESTATUS[0]}"; }
terminal() { # like run, in a terminal
    local peer=$1 runtime
    shift
    runtime=$(command -v "$peer" || echo "/usr/sbin/$peer")
    [ "$peer" = sconce ] && runtime=$scratch/sconce-oci
    set -- --network none "$@"
    with_terminal podman --root "$scratch/podman" --runroot "$scratch/run" --storage-driver vfs \
        --cgroup-manager cgroupfs --events-backend file --runtime "$runtime" run "$@"
}
exit_of() { podman_of "$1" inspect "$2" --format '{{.State.ExitCode}}'; }
stays() { run "$1" -d --name "stays" "${@:2}" >/dev/null; }
gone() { # podman finds /dev/shm busy at times, with any runtime
    podman_of "$1" rm -f -t 0 stays >/dev/null 2>&1 || { sleep 0.5; podman_of "$1" rm -f -t 0 stays; } >/dev/null 2>&1
    return 0
}

code() { run "$1" --rm bb sh -c 'echo out; echo err >&2; exit 4'; }
killed_itself() { run "$1" --rm --init bb sh -c 'kill -9 $$'; }
standard_input() { echo given | run "$1" -i --rm bb cat; }
terminal_code() { terminal "$1" -it --rm bb sh -c 'test -t 0 && test -t 2 && tty; sleep 0.3; exit 6'; }
terminal_of_user() { terminal "$1" -it --rm -u user bb sh -c 'tty; echo to it >/dev/tty; stat -c %u "$(tty)"; sleep 0.3'; }
no_such_command() { run "$1" --rm bb nosuch >/dev/null 2>&1; }
no_such_file() { run "$1" --rm bb /no/such >/dev/null 2>&1; }
not_executable() { run "$1" --rm bb /etc/passwd >/dev/null 2>&1; }
no_such_folder() { run "$1" --rm -w /etc/passwd bb true >/dev/null 2>&1; }
environment() { run "$1" --rm -e A=b --hostname there -w /tmp bb sh -c 'env | sort; pwd; hostname'; }
identity() { run "$1" --rm bb sh -c 'id; grep -E "^(Cap|NoNew|Seccomp:|Groups)" /proc/self/status; umask; ulimit -n'; }
user() { run "$1" --rm -u 1000:1000 --group-add 7 bb sh -c 'id -G; grep -E "^(Cap|Groups)" /proc/self/status; echo x >/dev/stdout'; }
capabilities() { run "$1" --rm --cap-drop all --cap-add net_admin,sys_ptrace bb grep Cap /proc/self/status; }
user_capabilities() { run "$1" --rm -u 1000 --cap-add net_admin bb grep Cap /proc/self/status; }
privileged() { run "$1" --rm --privileged bb sh -c 'grep -E "Cap|Seccomp:" /proc/self/status; ls /dev | grep -v -E "^(loop|tty|vcs|pts|console)" | wc -l'; }
no_new_privileges() { run "$1" --rm --security-opt no-new-privileges bb grep -E 'NoNew|Seccomp:' /proc/self/status; }
unconfined() { run "$1" --rm --security-opt seccomp=unconfined bb grep Seccomp: /proc/self/status; }
filtered() { run "$1" --rm bb sh -c 'unshare -m true 2>&1; mount -t tmpfs x /tmp 2>&1'; }
init() { run "$1" --rm --init bb sh -c 'ps -o pid,args | head -n 3; exit 3'; }
read_only() { run "$1" --rm --read-only bb sh -c 'touch /x 2>&1; touch /tmp/x && echo written'; }
mounts() { run "$1" --rm bb sh -c "cut -d' ' -f4- /proc/self/mountinfo | sed 's/^.* \(\/[^ ]*\) \([a-z,]*\) .*- \([^ ]*\) .*/\1 \2 \3/' | grep -v ' cgroup' | sort"; }
masked() { run "$1" --rm bb sh -c 'for f in /proc/kcore /proc/keys /proc/timer_list /sys/firmware /proc/scsi; do { wc -c <$f || ls $f | wc -l; } 2>&1; done; touch /proc/sys/kernel/x /proc/sysrq-trigger 2>&1'; }
devices() { run "$1" --rm bb sh -c 'cd /dev; stat -c "%n %F %t %T %a" null zero full random urandom tty; for l in fd stdin ptmx; do readlink $l; done; ls -d shm mqueue pts'; }
device() { run "$1" --rm --device /dev/zero:/dev/other:r bb sh -c 'stat -c "%F %t %T" /dev/other; head -c 3 /dev/other | wc -c'; }
device_denied() { run "$1" --rm --cap-add mknod bb sh -c 'mknod /tmp/n b 7 0 2>&1 && head -c 1 /tmp/n 2>&1 | wc -c'; }
volumes() { run "$1" --rm -v "$scratch/root/etc:/there:ro" --tmpfs /mem:size=1m bb sh -c 'wc -l </there/passwd; touch /there/x 2>&1; df -k /mem | tail -n 1 | cut -c 1-5; mount | grep -c mem'; }
user_namespace() { run "$1" --rm --uidmap 0:100000:65536 --gidmap 0:200000:65536 bb sh -c 'cat /proc/self/uid_map /proc/self/gid_map; id; touch /x; stat -c "%u %g" /x'; }
user_in_namespace() { run "$1" --rm --uidmap 0:100000:65536 --gidmap 0:200000:65536 -u 1000:1000 bb sh -c 'id; grep CapBnd /proc/self/status'; }
host_namespaces() { run "$1" --rm --pid host --ipc host --uts host bb sh -c 'hostname; test -d /proc/2 && echo others'; }
sysctl() { run "$1" --rm --sysctl kernel.msgmax=4096 bb cat /proc/sys/kernel/msgmax; }
limits() { run "$1" --rm --ulimit nofile=99:100 --ulimit core=0 --ulimit nproc=4096:4096 bb sh -c 'ulimit -n; ulimit -Hn; ulimit -c'; }
memory_score() { run "$1" --rm --oom-score-adj 500 bb cat /proc/self/oom_score_adj; }
in_cgroup() { run "$1" --rm --memory 64m --pids-limit 50 --cpu-shares 300 bb sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares memory.max pids.max 2>/dev/null'; }
out_of_memory() { run "$1" --rm --memory 20m --memory-swap 20m bb sh -c 'head -c 100m /dev/zero | tail | wc -c' >/dev/null 2>&1; }
exec_code() { stays "$1" bb sleep 100; podman_of "$1" exec stays sh -c 'id; grep Cap /proc/self/status; ps -o args | grep -c "^sleep 100"; exit 5'; local c=$?; gone "$1"; return $c; }
exec_user() { stays "$1" bb sleep 100; podman_of "$1" exec -u 1000 -e A=b -w /tmp stays sh -c 'id; pwd; echo $A; grep -E "Cap|Seccomp:" /proc/self/status'; gone "$1"; }
exec_missing() { stays "$1" bb sleep 100; podman_of "$1" exec stays nosuch >/dev/null 2>&1; local c=$?; podman_of "$1" exec stays /etc/passwd >/dev/null 2>&1; echo "$c $?"; gone "$1"; }
exec_input() { stays "$1" bb sleep 100; echo given | podman_of "$1" exec -i stays cat; gone "$1"; }
exec_in_user_namespace() { stays "$1" --uidmap 0:100000:65536 --gidmap 0:200000:65536 bb sleep 100; podman_of "$1" exec stays sh -c 'cat /proc/self/uid_map; id'; gone "$1"; }
stop() { stays "$1" bb sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done'; sleep 0.5; podman_of "$1" stop -t 5 stays; exit_of "$1" stays; gone "$1"; }
stop_hard() { stays "$1" bb sleep 100; podman_of "$1" stop -t 0 stays; exit_of "$1" stays; gone "$1"; }
kill_signal() { stays "$1" bb sh -c 'trap "exit 8" USR1; while :; do sleep 0.1; done'; sleep 0.5; podman_of "$1" kill -s USR1 stays; podman_of "$1" wait stays; gone "$1"; }
kill_again() { stays "$1" bb true; podman_of "$1" wait stays; podman_of "$1" kill stays >/dev/null 2>&1; echo $?; gone "$1"; }
pause() { stays "$1" bb sleep 100; podman_of "$1" pause stays >/dev/null; podman_of "$1" inspect stays --format '{{.State.Status}}'; podman_of "$1" unpause stays >/dev/null; podman_of "$1" inspect stays --format '{{.State.Status}}'; gone "$1"; }
removed() { stays "$1" bb sleep 100; podman_of "$1" rm stays >/dev/null 2>&1; echo $?; podman_of "$1" rm -f -t 0 stays; podman_of "$1" ps -aq | wc -l; }
create_start() { podman_of "$1" create --name stays --network none bb sh -c 'echo here; exit 2' >/dev/null; podman_of "$1" start -a stays; exit_of "$1" stays; podman_of "$1" start -a stays; gone "$1"; }
logs() { stays "$1" bb sh -c 'echo one; echo two >&2'; podman_of "$1" wait stays; podman_of "$1" logs stays 2>&1; gone "$1"; }
top() { stays "$1" bb sleep 100; podman_of "$1" top stays args; gone "$1"; }
namespace_of() { stays "$1" bb sleep 100; run "$1" --rm --pid container:stays bb sh -c 'ps -o args | grep -c "^sleep 100"'; gone "$1"; }
copy() { stays "$1" bb sleep 100; podman_of "$1" cp "$scratch/root/etc/passwd" stays:/tmp/p; podman_of "$1" exec stays wc -l /tmp/p; gone "$1"; }

build() { printf 'FROM bb\nRUN echo built >/made && id -u\nUSER 1000\nRUN id -u\n' >Containerfile; podman_of "$1" build -q --isolation oci --network none --no-cache -t made . >/dev/null; run "$1" --rm made sh -c 'cat /made; id -u'; }

rows='code killed_itself standard_input terminal_code terminal_of_user no_such_command no_such_file not_executable no_such_folder
environment identity user capabilities user_capabilities privileged no_new_privileges unconfined filtered init read_only
mounts masked devices device device_denied volumes user_namespace user_in_namespace host_namespaces sysctl limits memory_score
in_cgroup out_of_memory exec_code exec_user exec_missing exec_input exec_in_user_namespace stop stop_hard kill_signal
kill_again pause removed create_start logs top namespace_of copy build'

peers=
for peer in runc crun; do
    if why=$(run "$peer" --rm bb true 2>&1); then peers="$peers $peer"; else say "$peer is left out: $why"; fi
done
[ -n "$peers" ] || { say 'there is no runtime to compare with' >&2; exit 1; }

null=$(stat -c %u:%g /dev/null)
asked() { # PEER ROW: what it prints, and its exit code
    local out code
    out=$("$2" "$1" 2>&1 </dev/null)
    code=$?
    gone "$1"
    # crun 1.8.1 without cgroups gives the machine's own to a user namespace's root.
    if [ "$(stat -c %u:%g /dev/null)" != "$null" ]; then
        out="$out the owner of /dev/null was changed"
        chown "$null" /dev/null
    fi
    printf '%s\ncode %s\n' "$out" "$code" |
        sed -E "s#$scratch#@#g; s/[0-9a-f]{64}/ID/g; s/\b[0-9a-f]{12}\b/ID/g"
}

same=0 different=0 unexplained=0
printf '%-24s' row $peers; echo
for row in $rows; do
    ours=$(asked sconce "$row")
    line=$(printf '%-24s' "$row") shown=
    for peer in $peers; do
        theirs=$(asked "$peer" "$row")
        if [ "$ours" = "$theirs" ]; then
            same=$((same + 1)) verdict=same
        else
            different=$((different + 1)) verdict=different
            reason=$(allowed | awk -F' *[|] *' -v row="$row" '$1 == row { print $2 "|" $3 }')
            if [ -n "$reason" ] && [[ $peer = ${reason%%|*} ]]; then
                shown+="  ${reason#*|}"$'\n'
            else
                unexplained=$((unexplained + 1))
                shown+=$(diff <(echo "$theirs") <(echo "$ours") | sed "s/^</  $peer:/; s/^>/  sconce:/; /^[0-9-]/d")$'\n'
            fi
        fi
        line+=$(printf '%-24s' "$verdict")
    done
    echo "$line"
    [ -z "$shown" ] || printf '%s' "$shown"
done
say "$same same, $different different, $unexplained of them without a reason"

# How long from the caller to the container's end, without podman: a bundle with what podman's has.
mkdir bundle && cp -a root bundle/rootfs && (cd bundle && "$(command -v runc || echo /usr/sbin/runc)" spec 2>/dev/null)
if [ -e bundle/config.json ]; then
    sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"true"/' bundle/config.json
    sed -i 's/"soft": 1024/"soft": 512/; s/"hard": 1024/"hard": 512/' bundle/config.json
    for peer in sconce $peers; do
        runtime=$(command -v "$peer" || echo "/usr/sbin/$peer")
        [ "$peer" = sconce ] && runtime=$scratch/sconce-oci
        $runtime --root "$scratch/state" run --bundle bundle first >first.out 2>&1 || { say "$peer: $(head -n 1 first.out)"; continue; }
        begun=$(date +%s%N)
        for i in $(seq 20); do $runtime --root "$scratch/state" run --bundle bundle "t$i" >/dev/null 2>&1; done
        ended=$(date +%s%N)
        say "$peer: $(((ended - begun) / 20 / 10000)) hundredths of a ms for each of 20 \`run\`"
    done
fi

[ "$unexplained" -eq 0 ]
