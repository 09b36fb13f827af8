//! `--network private`: a network of its own, joined to this machine's by pasta.
//!
//! The machine is a network namespace: a loopback device, and an outer one whose default route leads
//! nowhere. So nothing here depends on the network that the tests are run in.

#[allow(dead_code)]
mod world;

use std::fs;
use std::process::Output;

use sconce_testkit::installed;
use world::{As, World, eventually, processes_with, texts};

const WHO: [As; 2] = [As::Root, As::Nobody];

/// Answers every connection to an address, or to an abstract socket.
const SERVER: &str = r#"
use IO::Socket::INET; use Socket; $| = 1; my ($where, $words) = @ARGV; my $listener;
if ($where =~ /^@(.*)/) {
    socket($listener, AF_UNIX, SOCK_STREAM, 0) or die $!;
    bind($listener, pack_sockaddr_un("\0$1")) && listen($listener, 5) or die $!;
} else {
    $listener = IO::Socket::INET->new(LocalAddr => $where, Listen => 5, ReuseAddr => 1) or die $!;
}
print "up\n";
while (accept(my $client, $listener)) { syswrite($client, "$words\n"); close($client); }
"#;

/// Says what each address answers.
const CLIENT: &str = r#"
use IO::Socket::INET; use Socket; $| = 1;
for my $where (@ARGV) {
    my $socket;
    if ($where =~ /^@(.*)/) {
        socket($socket, AF_UNIX, SOCK_STREAM, 0);
        connect($socket, pack_sockaddr_un("\0$1")) or undef $socket;
    } else {
        $socket = IO::Socket::INET->new(PeerAddr => $where, Timeout => 2);
    }
    my $answer = $socket ? <$socket> : undef;
    print "$where: ", $answer // "nothing\n";
}
"#;

/// Answers what is asked by UDP; the other one asks.
const RESOLVER: &str = r#"
use IO::Socket::INET; $| = 1;
my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.53:53", Proto => "udp") or die $!;
print "up\n"; while ($socket->recv(my $asked, 512)) { $socket->send("answer to $asked"); }
"#;
const QUESTION: &str = r#"
use IO::Socket::INET;
for my $server (@ARGV) {
    my $socket = IO::Socket::INET->new(PeerAddr => "$server:53", Proto => "udp");
    $socket->send("a name"); my $ready = ""; vec($ready, fileno($socket), 1) = 1;
    my $answer; $socket->recv($answer, 512) if select($ready, undef, undef, 3);
    print "$server: ", $answer || "nothing", "\n";
}
"#;

/// Runs a shell script on the machine that is described above. `$RUN` there starts a container with a
/// private network and more options, and perl in it.
fn on_machine(world: &World, script: &str) -> Output {
    installed("pasta", "passt");
    installed("ip", "iproute2");
    for (name, text) in [
        ("server.pl", SERVER),
        ("client.pl", CLIENT),
        ("resolver.pl", RESOLVER),
        ("question.pl", QUESTION),
    ] {
        fs::write(world.path(name), text).expect("a program");
    }
    let setup = "set -e
        ip link set lo up
        ip link add outer type veth peer name far
        ip link set outer up; ip link set far up
        ip addr add 192.0.2.2/24 dev outer
        ip route add default via 192.0.2.1
        # Everyone's, as udev makes it.
        mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200
        echo nameserver 192.0.2.53 > resolv.conf; mount --bind resolv.conf /etc/resolv.conf
        set +e
        until_up() { while ! test -s $1; do sleep 0.02; done; }
        serve() { perl server.pl $1 \"$2\" > up & started; until_up up; : > up; }
        started() { STARTED=\"$STARTED $!\"; }
        SEES='-v=/usr:/usr:ro -v=/lib:/lib:ro -v=.:/w:ro'
        RUN=\"$BARE --private $SEES\"
        ";
    let script = format!("{setup}{script}\nkill $STARTED 2>/dev/null");
    world.around(&format!(
        "exec timeout 60 unshare --net --mount sh -c '{}'",
        script.replace('\'', r"'\''")
    ))
}

#[test]
fn services_of_the_machine_are_out_of_reach() {
    for who in WHO {
        let world = World::new(who);
        let script = "serve 127.0.0.1:7001 secret; serve @bus abstract
            ADDRESSES='127.0.0.1:7001 192.0.2.1:7001 192.0.2.2:7001 169.254.1.1:7001 @bus'
            $BARE $SEES $PLACE perl /w/client.pl 127.0.0.1:7001 @bus
            $RUN $PLACE perl /w/client.pl $ADDRESSES";
        let (out, err) = texts(&on_machine(&world, script));
        // The machine's own network shows that there was something to reach.
        let expected = "127.0.0.1:7001: secret\n@bus: abstract\n\
            127.0.0.1:7001: nothing\n192.0.2.1:7001: nothing\n192.0.2.2:7001: nothing\n\
            169.254.1.1:7001: nothing\n@bus: nothing\n";
        assert_eq!((out.as_str(), err.as_str()), (expected, ""), "{who:?}");
    }
}

#[test]
fn ports_are_published_where_they_were_asked_for() {
    for who in WHO {
        let world = World::new(who);
        let script = "
            $RUN -p=127.0.0.1:8081:8080 -p=8082:8080 -p=8083:9999 $PLACE perl /w/server.pl 0.0.0.0:8080 inside > ready & started
            until_up ready
            perl client.pl 127.0.0.1:8081 127.0.0.1:8082 127.0.0.1:8083 127.0.0.1:8080 192.0.2.2:8081
            # A server that only its own machine may reach.
            $RUN -p=127.0.0.1:8084:8085 $PLACE perl /w/server.pl 127.0.0.1:8085 local > again & started
            until_up again; perl client.pl 127.0.0.1:8084";
        let (out, err) = texts(&on_machine(&world, script));
        let expected = "127.0.0.1:8081: inside\n127.0.0.1:8082: inside\n127.0.0.1:8083: nothing\n\
            127.0.0.1:8080: nothing\n192.0.2.2:8081: nothing\n127.0.0.1:8084: local\n";
        assert_eq!((out.as_str(), err.as_str()), (expected, ""), "{who:?}");
    }
}

#[test]
fn a_busy_port_is_said_before_anything_starts() {
    for who in WHO {
        let world = World::new(who);
        let script = "serve 127.0.0.1:7001 busy
            for ports in -p=127.0.0.1:7001:80 -p=7001:80 '-p=7002:80 -p=7001:81'; do
                $RUN $ports $PLACE sh -c 'echo started'; echo $?
            done
            # On an address of its own it is free.
            $RUN -p=127.0.0.2:7001:80 $PLACE sh -c 'echo started'";
        let (out, err) = texts(&on_machine(&world, script));
        assert_eq!(out, "125\n125\n125\nstarted\n", "{who:?}: {err}");
        assert_eq!(
            err.matches("port 7001 of this machine can't be listened on").count(),
            3,
            "{err}"
        );
        assert_eq!(err.matches("choose another host port").count(), 3, "{err}");
    }
}

#[test]
fn names_are_resolved_as_on_the_machine() {
    for who in WHO {
        let world = World::new(who);
        let script = "$RUN $PLACE cat /etc/resolv.conf
            # A resolver that only the machine itself reaches, as systemd-resolved has it.
            perl resolver.pl > up & started; until_up up
            echo nameserver 127.0.0.53 > resolv.conf; echo search lab >> resolv.conf
            $RUN $PLACE cat /etc/resolv.conf
            $RUN $PLACE perl /w/question.pl 169.254.1.1 127.0.0.53
            $RUN $PLACE cat /etc/hosts";
        let (out, err) = texts(&on_machine(&world, script));
        let (resolvers, hosts) = out.split_once("127.0.0.53: ").expect("both");
        let expected = "nameserver 192.0.2.53\nsearch lab\nnameserver 169.254.1.1\n\
            169.254.1.1: answer to a name\n";
        assert_eq!((resolvers, err.as_str()), (expected, ""), "{who:?}: {out}");
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert!(hosts.starts_with("nothing\n127.0.0.1\tlocalhost\n"), "{hosts}");
        assert!(hosts.lines().any(|line| line.ends_with(&format!("\t{name}"))), "{hosts}");
    }
}

#[test]
fn pasta_ends_with_its_container() {
    for who in WHO {
        let world = World::new(who);
        let mark = world.path("scratch").display().to_string();
        for (what, how) in [
            ("its command ends", "$RUN $PLACE true"),
            (
                "its caller is killed",
                "$RUN $PLACE sleep 1000 & CALLER=$!; running; kill -KILL $CALLER",
            ),
            ("its shim is killed", "$RUN $PLACE sleep 1000 & running; kill -KILL $(shim); wait"),
        ] {
            let script = format!(
                "find() {{ for p in /proc/[0-9]*; do line=$(tr '\\0' ' ' < $p/cmdline 2>/dev/null)
                    case $line in $1*) echo ${{p#/proc/}};; esac; done; }}
                shim() {{ find \"sconce-shim {mark}\"; }}
                running() {{ until find \"*/pasta *{mark}\" | grep -q .; do sleep 0.02; done
                    until find 'sleep 1000' | grep -q .; do sleep 0.02; done; }}
                {how}"
            );
            let output = on_machine(&world, &script);
            eventually(
                &format!("{who:?}: pasta is gone when {what}: {:?}", texts(&output)),
                || processes_with(&mark) == 0,
            );
            assert!(!texts(&output).1.contains("stays"), "{:?}", texts(&output));
        }
    }
}

#[test]
fn what_pasta_lacks_is_said() {
    for who in WHO {
        let world = World::new(who);
        let script = "ip route del default; $RUN $PLACE echo started; echo $?
            ip route add default via 192.0.2.1
            umount /dev/net; mount -t tmpfs none /dev/net; $RUN $PLACE echo started; echo $?
            for place in /usr/local/bin/pasta /usr/bin/pasta; do
                test ! -e $place || mount --bind /dev/null $place; done
            $RUN $PLACE echo started; echo $?";
        let (out, err) = texts(&on_machine(&world, script));
        assert_eq!(out, "125\n125\n125\n", "{who:?}: {err}");
        for words in ["default route", "/dev/net/tun", "not installed", "install the package passt"]
        {
            assert!(err.contains(words), "{who:?}: {words}\n{err}");
        }
    }
}
