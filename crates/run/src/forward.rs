//! `-p`.
//!
//! On the host's network a port inside is the same port of the host, and nothing need be done; only
//! where the numbers differ does a thread pass connections on. On a private network pasta does
//! ([`crate::private`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::Error;
use crate::{Container, Network, Port};

/// Most connections passed on at once; more wait in the listener's queue.
const MOST: usize = 256;

/// Listens for every port that needs it. The threads end with the process: a listener stays
/// until then.
pub(crate) struct Listeners(Vec<(TcpListener, u16)>);

impl Listeners {
    /// Takes the ports, so that one that is in use is an error before anything starts.
    pub(crate) fn open(container: &Container) -> Result<Self, Error> {
        if container.network == Network::None
            && let Some(port) = container.ports.first()
        {
            return Err(Error::Invalid {
                option: "-p",
                given: format!("{}:{}", port.host, port.container),
                why: "a container with --network none has no ports".to_owned(),
            });
        }
        let mut listeners = Vec::new();
        let private = container.network == Network::Private;
        for port in &container.ports {
            // Also one that the command is to take itself: it is told now if another has it.
            let listener =
                listen(port).map_err(|source| Error::Listen { port: port.host, source })?;
            if needs_forwarding(port) {
                listeners.push((listener, port.container));
            }
        }
        // In a private network pasta listens. Of several ports it would leave out one that is in use,
        // and say nothing.
        if private {
            listeners.clear();
        }
        Ok(Self(listeners))
    }

    /// Starts passing connections on.
    pub(crate) fn serve(self) -> io::Result<()> {
        for (listener, target) in self.0 {
            thread::Builder::new()
                .name(format!("port {target}"))
                .spawn(move || accept(&listener, target))?;
        }
        Ok(())
    }
}

/// A server inside usually listens on all addresses or on the loopback one, and is reached
/// there already under its own number.
fn needs_forwarding(port: &Port) -> bool {
    port.host != port.container
}

fn listen(port: &Port) -> io::Result<TcpListener> {
    match port.address {
        Some(address) => TcpListener::bind(SocketAddr::new(address, port.host)),
        // Both families where there are two (ipv6(7): this socket takes IPv4 as well).
        // A listener of somebody else's on one address of either is a port in use.
        None => match TcpListener::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port.host)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port.host))
            }
            bound => bound,
        },
    }
}

fn accept(listener: &TcpListener, target: u16) {
    let open = Arc::new(AtomicUsize::new(0));
    for incoming in listener.incoming() {
        let Ok(client) = incoming else {
            // Out of descriptors, mostly: let some close.
            thread::sleep(std::time::Duration::from_millis(20));
            continue;
        };
        while open.load(Ordering::Acquire) >= MOST {
            thread::sleep(std::time::Duration::from_millis(5));
        }
        let count = Arc::clone(&open);
        count.fetch_add(1, Ordering::AcqRel);
        let spawned = thread::Builder::new().spawn(move || {
            // A server that is not up yet refuses: the client sees its connection close.
            drop(join(client, target));
            count.fetch_sub(1, Ordering::AcqRel);
        });
        if spawned.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Copies both ways until both sides have ended.
fn join(client: TcpStream, target: u16) -> io::Result<()> {
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let targets = loopback.map(|address| SocketAddr::new(address, target));
    let server = TcpStream::connect(&targets[..])?;
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    let up = thread::Builder::new().spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_server);
        drop(to_server.shutdown(Shutdown::Write));
        copied
    })?;
    let down = io::copy(&mut from_server, &mut to_client);
    drop(to_client.shutdown(Shutdown::Write));
    drop(up.join());
    down.map(|_| ())
}
