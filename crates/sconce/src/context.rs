//! What commands have at hand: the store, the client, the display.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use sconce_blob::Digest;
use sconce_build::{Builder, Progress};
use sconce_fetch::Netrc;
use sconce_fetch::http::{Client, Options};
use sconce_fetch::peers::Peers;
use sconce_lock::Spec;
use sconce_registry::Access;
use sconce_start::Target;
use sconce_store::Store;
use sconce_transfer::{SigningPolicy, Transfer};

use crate::cli::Global;
use crate::error::{Failure, Kind};
use crate::progress::Display;

/// The machine's policy for what is taken from registries.
const MACHINE_POLICY: &str = "/etc/sconce/policy.toml";
/// The user's own, in the folder of the user's configuration.
const USER_POLICY: &str = "policy.toml";

/// The environment that sconce was called with, as far as it is text.
pub fn environment() -> sconce_start::Environment<'static> {
    sconce_start::Environment(&|name| std::env::var(name).ok())
}

/// The store that the environment names, over those below it.
pub fn open_store() -> Result<Store, sconce_store::Error> {
    let env = |name: &str| std::env::var_os(name);
    let options = sconce_store::Options {
        lowers: sconce_store::lower_roots(env)?,
        note: Some(Box::new(|note| eprintln!("note: {note}"))),
        remover: Some(Box::new(|path| sconce_run::remove(path).map_err(io::Error::other))),
        lock_timeout: sconce_store::lock_timeout(env)?,
    };
    Store::open_with(sconce_store::default_root(env)?, options)
}

/// The logins of the file that NETRC names, else of ~/.netrc.
pub fn netrc() -> Result<Netrc, Failure> {
    let path = std::env::var_os("NETRC")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".netrc")))
        .filter(|path| path.exists());
    match path {
        Some(path) => Ok(Netrc::read(&path)?),
        None => Ok(Netrc::default()),
    }
}

/// An open store and what goes with it.
pub struct Context {
    pub store: Store,
    pub client: Client,
    pub display: Display,
    pub threads: usize,
}

impl Context {
    /// Gives an image of the store a name that a person has written.
    pub fn give_name(&self, name: &str, image: Digest) -> Result<(), Failure> {
        self.store.put_name(name, image)?;
        // Offline it is the way to have it. Who did not mean it would wonder what runs.
        if Spec::is_tag(name) {
            self.display.note(&format!(
                "`sconce run {name}` and `sconce serve` take this image from now on, and not the one that sconce builds for that tag; `sconce rmi {name}` ends that"
            ));
        }
        Ok(())
    }

    /// Says where what was named hides an image of the store.
    pub fn say_hidden(&self, target: &Target, text: &str) -> Result<(), Failure> {
        if let Some(text) = target.hides(text, &self.store)? {
            self.display.note(&text);
        }
        Ok(())
    }

    /// Opens [`open_store`]'s.
    pub fn open(global: &Global) -> Result<Self, Failure> {
        let store = open_store()?;
        let netrc = netrc()?;
        let peers = global.peers.iter().map(|peer| peer.trim().to_owned());
        let peers: Vec<String> = peers.filter(|peer| !peer.is_empty()).collect();
        let peers = Peers::new(&peers).map_err(|error| {
            Failure::new(Kind::Usage, error.to_string())
                .hint("`--peer node1:5000`, or SCONCE_PEERS=node1:5000,node2:5000")
        })?;
        let options = Options {
            offline: global.offline,
            netrc,
            cancel: Arc::default(),
            peers,
            ..Options::default()
        };
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Ok(Self {
            store,
            client: Client::new(options),
            display: Display::new(global.quiet),
            threads: global.threads.map_or_else(cores, std::num::NonZeroUsize::get),
        })
    }

    /// The way to registries: logins and certificates are the user's own.
    pub fn access(&self) -> Access {
        let env = |name: &str| std::env::var_os(name);
        Access::of_environment(self.client.options().clone(), &env)
    }

    /// Which keys must have signed what is taken from registries.
    pub fn policy(&self) -> Result<SigningPolicy, Failure> {
        let folder = crate::trust::folder(&|name| std::env::var_os(name));
        let mut paths = vec![PathBuf::from(MACHINE_POLICY)];
        paths.extend(folder.map(|folder| folder.join(USER_POLICY)));
        Ok(SigningPolicy::read(&paths)?)
    }

    /// What moves images by that way.
    pub fn transfer<'a>(&'a self, access: &'a Access, policy: &'a SigningPolicy) -> Transfer<'a> {
        Transfer {
            store: &self.store,
            access,
            progress: &self.display,
            policy,
            threads: self.threads,
        }
    }

    /// A builder over all of it.
    pub fn builder<'a>(&'a self, mirror: Option<&'a str>) -> Builder<'a> {
        Builder {
            project: None,
            store: &self.store,
            client: &self.client,
            progress: &self.display,
            threads: self.threads,
            mirror,
        }
    }
}
