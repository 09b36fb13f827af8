//! The removal of what containers leave: folders and cgroups of those that were killed.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::WaitOptions;

use crate::cgroup;
use crate::control::Message;
use crate::error::{Doing, Error};
use crate::folder::{self, State};
use crate::ids::{self, Power};
use crate::{Container, control, os};

/// Removes what containers left that were killed. What cannot be removed stays, with a
/// notice: it must not keep other containers from starting.
pub(crate) fn left(folders: &[(PathBuf, OwnedFd)], notices: &mut dyn FnMut(&str)) {
    for (path, _lock) in folders {
        if let Err(error) = one(path) {
            notices(&format!(
                "what a container that was killed left in {} could not be removed: {}",
                path.display(),
                error.chain()
            ));
        }
    }
}

/// Cleans after one container that nobody runs any more. A detached one keeps its record and log.
fn one(path: &Path) -> Result<(), Error> {
    let state = folder::read::<State>(path, "state.json").ok();
    state.iter().for_each(|state| remove_groups(path, state));
    let keeps = folder::read::<Container>(path, "container.json")
        .is_ok_and(|container| container.detach && !container.remove);
    match state {
        Some(mut state) if keeps => {
            if state.finished.is_none() {
                state.pid = None;
                state.finished = Some(folder::now());
                state.error = Some("its shim was killed".to_owned());
            }
            keep_record(path, &state)
        }
        _ => remove(path),
    }
}

/// Removes all that is left of a container that ended.
pub(crate) fn ended(path: &Path, state: &State) -> Result<(), Error> {
    remove_groups(path, state);
    remove(path)
}

/// Writes how a container ended, and removes what it changed. Where the disk is full, because it filled
/// it perhaps, the second makes room for the first.
pub(crate) fn keep_record(path: &Path, state: &State) -> Result<(), Error> {
    let written = folder::write(path, "state.json", state);
    remove(&path.join("scratch"))?;
    written.or_else(|_| folder::write(path, "state.json", state))
}

fn remove_groups(path: &Path, state: &State) {
    let name = path.file_name().map(|id| format!("sconce-{}", id.to_string_lossy()));
    for group in &state.cgroups {
        // Only what was made for this container, whatever the document says.
        if group.starts_with("/sys/fs/cgroup")
            && group.file_name().map(|n| n.to_string_lossy().into_owned()) == name
        {
            cgroup::remove(group);
        }
    }
}

/// Removes a folder that a container wrote to, and all below it. Files of one that ran without root
/// may belong to users that exist in its user namespace only: they are removed in a namespace with
/// the same maps.
///
/// # Errors
/// [`Error::Store`] names what stays.
pub fn remove(path: &Path) -> Result<(), Error> {
    match sconce_store::remove_tree(path) {
        Err(sconce_store::Error::Unremovable { .. }) if ids::power()? == Power::User => {
            remove_as_root_inside(path)
        }
        other => Ok(other?),
    }
}

fn remove_as_root_inside(path: &Path) -> Result<(), Error> {
    let (ours, theirs) = control::pair().doing("making a pair of sockets")?;
    let child = os::fork(|| {
        let removed = os::unshare(libc::CLONE_NEWUSER).map_err(ids::refusal).and_then(|()| {
            control::send(&theirs, &Message::MapMe).doing("asking for id maps")?;
            let _ = control::receive(&theirs).doing("waiting for id maps")?;
            os::set_ids(0, 0).map_err(ids::refusal)?;
            Ok(sconce_store::remove_tree(path)?)
        });
        match removed {
            Ok(()) => 0,
            Err(error) => {
                let failed = Message::Failed { message: error.chain(), hint: error.hint() };
                drop(control::send(&theirs, &failed));
                1
            }
        }
    })
    .doing("starting a process to clean up")?;
    drop(theirs);
    let mut result = Ok(());
    while let Some(message) = control::receive(&ours).doing("waiting for the clean-up")? {
        match message {
            Message::MapMe => {
                ids::write_maps(child)?;
                control::send(&ours, &Message::Go).doing("answering the clean-up")?;
            }
            Message::Failed { message, hint } => result = Err(Error::Shim { message, hint }),
            _ => {}
        }
    }
    rustix::process::waitpid(Some(child), WaitOptions::empty()).doing("collecting the clean-up")?;
    result
}
