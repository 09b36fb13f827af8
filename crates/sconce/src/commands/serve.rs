//! `sconce serve`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sconce_build::Progress;
use sconce_listen::{Hosts, Logins, Tls};
use sconce_run::Interrupts;
use sconce_serve::{Allowed, Error, Limits, Pushes, Registry, Specifications, Stores, serve};

use crate::cli::Global;
use crate::commands::paths;
use crate::context::{Context, open_store};
use crate::error::{Failure, Kind};

/// Serve the store as a registry, read-only unless --writable is given
///
/// Docker, podman, containerd, skopeo and sconce pull from it the images that `sconce images` shows, and
/// tags such as torch:2.15.0, which are locked and built when they are first asked for; a client's pull
/// waits as long. Layers go out straight from the wheels. Prints the address. Without --tls-cert nothing is
/// encrypted, and without --htpasswd who can connect can read all of the store. Ends with Ctrl-C.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce serve                                        docker pull localhost:5000/torch:2.15.0
  sconce serve --listen 192.0.2.7:5000 --allow torch  for other machines; of the tags, torch's are built
  sconce serve --no-build                             only what is there already
  sconce serve --writable                             skopeo copy oci:DIR docker://localhost:5000/demo:1
  sconce serve --listen 192.0.2.7:5000 --tls-cert node.pem --tls-key node.key --htpasswd users")]
pub struct Args {
    /// Where to listen. Other machines reach it only at another address than this one; port 0 is any
    /// that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Build this tag for whoever asks: torch:2.15.0, torch (any tag of it), 'torch:2.*', '*'. May be given
    /// more than once. If not given, any tag is built on the loopback address, none on others
    #[arg(long, value_name = "NAME[:TAG]", conflicts_with = "no_build")]
    allow: Vec<String>,
    /// Answer requests for this name of a host too: registry.example; .example for all names below it. Requests
    /// for an address, for localhost and for this machine's own name are answered anyway, others are
    /// refused: a web page could read the images by giving a name of its own this machine's address (DNS
    /// rebinding). May be given more than once
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    host_name: Vec<String>,
    /// Build nothing
    #[arg(long)]
    no_build: bool,
    /// Encrypt connections: the certificate with those above it, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM, without a password
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Answer only who logs in: users and their passwords' hashes, as `htpasswd -B` writes them
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Take images that are pushed, of one platform each, under any name but those of tags that sconce builds
    /// itself. Needs --htpasswd at any address but the loopback's. Nothing is deleted by clients. Uploads leave half of
    /// the connections to pulls, and each client (by login, else by address) has a share of them; slow ones are ended.
    /// A policy file can ask for signatures when such an image is run here: [pushed] (docs/signatures.md)
    #[arg(long)]
    writable: bool,
}

/// How often it is looked whether a signal came.
const LOOK: Duration = Duration::from_millis(100);

/// The largest file of a certificate, key or users, bytes.
const MAX_FILE: u64 = 4 << 20;

fn text(option: &str, path: &Path) -> Result<String, Failure> {
    paths::read(option, path, MAX_FILE)
}

pub fn host_name(text: &str) -> Result<String, String> {
    match Hosts::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a host's name has letters, digits, `-` and dots, and no port".to_owned()),
    }
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let certificate = text("--tls-cert", certificate)?;
            Some(Tls::new(certificate.as_bytes(), text("--tls-key", key)?.as_bytes())?)
        }
        _ => None,
    };
    let logins = match args.htpasswd.as_deref() {
        Some(path) => Some(Logins::parse(&text("--htpasswd", path)?)?),
        None => None,
    };
    if args.writable && logins.is_none() && !args.listen.ip().is_loopback() {
        let what = "--writable without logins is for the loopback address alone";
        let hint = "--htpasswd FILE names who may push; `htpasswd -cB FILE NAME` makes one";
        return Err(Failure::new(Kind::Usage, what).hint(hint));
    }
    let context = Context::open(global)?;
    let fault = |source| Error::Listen { address: args.listen, source };
    let listener = TcpListener::bind(args.listen).map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let loopback = address.ip().is_loopback();
    let allowed = match (args.no_build, args.allow.is_empty(), loopback) {
        (true, ..) => Allowed::nothing(),
        (false, true, true) => Allowed::new(vec!["*".to_owned()]),
        _ => Allowed::new(args.allow.clone()),
    };
    if !loopback {
        if logins.is_none() {
            context.display.note(
                "whoever can reach this address can read all images of the store; --htpasswd asks for logins",
            );
        }
        if tls.is_none() {
            let what = if logins.is_some() { "passwords and images go" } else { "images go" };
            context.display.note(&format!(
                "{what} over the network unencrypted, and whoever is between can change what is not asked for by digest; --tls-cert and --tls-key encrypt"
            ));
        }
        if allowed.is_empty() && !args.no_build {
            context
                .display
                .note("no tag is built for others: `--allow torch` lets them ask for torch's");
        }
    }
    if args.writable && logins.is_none() {
        context.display.note(
            "every user of this machine can put images into the store, in the place of those that are there; --htpasswd asks for logins",
        );
    }
    let open = || open_store();
    let note = |text: &str| context.display.note(text);
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let tls_is_on = tls.is_some();
    let registry = Registry {
        stores: Stores::new(&open)?,
        specifications: Specifications::new(
            &context.client,
            &context.display,
            context.threads,
            sconce_start::host(),
            allowed,
        ),
        hosts: Hosts::new(&own, &args.host_name),
        logins,
        pushes: args.writable.then(Pushes::default),
        tls,
        note: &note,
    };
    let scheme = if tls_is_on { "https" } else { "http" };
    println!("{scheme}://{address}");
    // Whoever started it may wait for this line; that nobody reads it is no reason to end.
    let _ = std::io::stdout().flush();
    let interrupts = Interrupts::listen()?;
    let leftovers = context.store.leftovers();
    thread::scope(|scope| {
        scope.spawn(|| {
            let signal = loop {
                match interrupts.came() {
                    Some(signal) => break signal,
                    None => thread::sleep(LOOK),
                }
            };
            // Uploads that are still coming are nobody's: their clients begin anew.
            registry.clear();
            leftovers.remove();
            sconce_fetch::uv::end_all();
            std::process::exit(128 + signal);
        });
        serve(&listener, &registry, &Limits::default())
    })
}
