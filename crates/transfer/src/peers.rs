//! Layers from other machines, by their digests, before their registry is asked.

use sconce_build::Stage;
use sconce_fetch::downloads::DownloadProgress;
use sconce_fetch::peers::Needed;
use sconce_registry::Reference;
use sconce_store::Layer;

use crate::{Error, Transfer};

/// Layers under way at a time.
const PARALLEL: usize = 4;

impl Transfer<'_> {
    /// Puts those of the layers into the store that peers have; their DiffIDs are still to be checked.
    pub(crate) fn take_from_peers(&self, layers: &[&Layer], from: &Reference) -> Result<(), Error> {
        let peers = self.access.peers();
        // What is a peer and the registry too sends each layer once, into a tree at once.
        if layers.is_empty() || peers.is_empty() || peers.has(&from.host) {
            return Ok(());
        }
        let needed: Vec<Needed> = layers
            .iter()
            .map(|layer| Needed {
                name: format!("layer {}", layer.digest.short()),
                digest: layer.digest,
                size: layer.size,
            })
            .collect();
        let stage = self.progress.begin("asking peers", None);
        peers
            .take(self.store, &needed, PARALLEL, &Told { transfer: self, stage: &*stage })
            .map_err(sconce_registry::Error::from)?;
        let missing = self.store.missing(&needed, |file| file.digest)?.len();
        stage.end(&format!("{} of {} layers", needed.len() - missing, needed.len()));
        Ok(())
    }
}

struct Told<'a> {
    transfer: &'a Transfer<'a>,
    stage: &'a dyn Stage,
}

impl DownloadProgress for Told<'_> {
    fn started(&self, _: &str, _: u64, _: Option<u64>) {}

    fn advanced(&self, _: &str, bytes: u64) {
        self.stage.advance(bytes);
    }

    fn restarted(&self, _: &str, _: u64) {}

    fn finished(&self, _: &str) {}

    fn retrying(&self, name: &str, why: &sconce_fetch::Error) {
        let words = sconce_fetch::about(name, why);
        self.transfer.progress.note(&format!("{words}; trying elsewhere"));
    }
}
