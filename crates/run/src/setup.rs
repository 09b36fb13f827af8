//! From a request to a container whose command runs: namespaces, root, mounts, first process.
//!
//! It happens in the shim. libcontainer makes the container's mounts and enters its root, as root of
//! the user namespace the shim is in, so that one path serves root and everyone else.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::apparmor::{AppArmor, Confinement};
use crate::cgroup::Groups;
use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::ids::Maps;
use crate::init::Init;
use crate::overlay::Overlay;
use crate::places::{self, Mount};
use crate::privileges::Privileges;
use crate::process::Process;
use crate::shim::notice;
use crate::spec::{self, Place};
use crate::user::Identity;
use crate::{
    Container, Network, Seccomp, Stdio, capabilities, cdi, cgroup, devices, etc, ids, no_cgroups,
    os, overlay, private, processors, rlimit, terminal, trace, user, volumes,
};

/// A container whose first process was started.
pub(crate) struct Started {
    pub(crate) init: Pid,
    pub(crate) overlay: Overlay,
    /// What `exec` starts from.
    pub(crate) process: Process,
}

/// The folder of a scratch folder where the shim, and it alone, sees a file system in memory: what is
/// small, needed for the start and gone with it costs no disk any work.
const STAGE: &str = "stage";

fn mount_stage(scratch: &Path) -> Result<PathBuf, Error> {
    let stage = scratch.join(STAGE);
    fs::create_dir(&stage).doing_to("creating", &stage)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", &stage, "tmpfs", flags, Some(c"mode=0700,size=16m"))
        .doing_to("mounting a tmpfs on", &stage)?;
    Ok(stage)
}

/// Makes `container` in `scratch` and starts it. Its first process has `to_shim` to say how it
/// goes.
pub(crate) fn start(
    container: &Container,
    scratch: &Path,
    groups: &Groups,
    window: Option<(u16, u16)>,
    to_shim: OwnedFd,
) -> Result<Started, Error> {
    if let Some(text) = container.processors.as_deref().and_then(processors::stay_on) {
        notice(text);
    }
    let in_user_namespace = ids::inside_namespace()?;
    enter_namespaces(container, scratch)?;
    let held = volumes::hold(&container.volumes, in_user_namespace, &container.hidden)?;
    let unified_cgroups = cgroup::unified();
    no_cgroups::hide(in_user_namespace)?;

    let keep = container.keep_changes.is_some();
    let stage = mount_stage(scratch)?;
    let overlay = overlay::mount(&container.lowers, scratch, &stage, in_user_namespace, keep)?;
    if overlay.in_memory {
        notice(format!(
            "{} cannot hold an overlay's changes; what the container writes to its root stays in memory",
            scratch.display()
        ));
    }
    let staged = volumes::stage(held, &container.volumes, &stage.join("volumes"))?;
    if !in_user_namespace {
        no_cgroups::leave_out(&stage, &staged)?;
    }
    let root = fs::File::open(&overlay.root).doing_to("opening", &overlay.root)?;
    let passwd = user::read_in(&root, "/etc/passwd")?;
    let group = user::read_in(&root, "/etc/group")?;
    let mut identity = user::resolve(container.user.as_deref(), &container.groups, &passwd, &group)
        .map_err(|error| of_image(container, error))?;
    user::check_mapped(container.user.as_deref(), &identity, &Maps::read()?)
        .map_err(|error| of_image(container, error))?;
    if !identity.known {
        user::make_known(&root, &mut identity, &passwd)?;
        if container.read_only {
            identity.home = "/tmp".to_owned();
        }
    }
    let workdir = container.workdir.as_deref().unwrap_or(Path::new("/"));
    let no_workdir = |why: String| Error::Invalid {
        option: "working folder",
        given: workdir.display().to_string(),
        why,
    };
    if let Some(file) = etc::FILES.iter().find(|file| workdir.starts_with(file)) {
        return Err(no_workdir(format!("{file} is a file of this machine, which is shown there")));
    }
    let below = staged
        .iter()
        .filter_map(|volume| Some((volume, workdir.strip_prefix(&volume.target).ok()?)));
    match below.min_by_key(|(_, rest)| rest.components().count()) {
        None => user::create_folder_in(&root, workdir).map_err(|error| {
            no_workdir(format!("it is not there, and can't be made ({})", error.chain()))
        })?,
        // In a volume it is made as Docker does.
        Some((volume, rest)) => {
            let folder =
                fs::File::open(&volume.source).doing_to("opening the volume at", &volume.target)?;
            let made = user::create_folder_in(&folder, &Path::new("/").join(rest));
            made.map_err(|error| {
                no_workdir(format!(
                    "it is not there in the volume at {}, and can't be made ({})",
                    volume.target.display(),
                    error.chain()
                ))
            })?;
        }
    }
    for folder in &container.folders {
        user::create_folder_in(&root, folder)?;
    }
    user::check_folders_in(&root)?;
    // Links that lead to where the image's own system would put the file lead nowhere here.
    for name in etc::FILES {
        user::remove_link_in(&root, name)?;
    }
    drop(root);

    let hostname = container
        .hostname
        .clone()
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let etc = etc::write(&stage.join("etc"), container, &hostname)?;
    let in_memory = spec::folders_in_memory(container);
    let mounts = Mount::in_order(&staged, &in_memory);
    // A folder stands for the nodes in it, of which most are in a folder of their own.
    let nodes = container.devices.iter().filter(|device| !device.source.is_dir());
    let mounted =
        places::check(&overlay.root, &etc, &mounts, nodes.map(|node| node.target.as_path()))?;
    mounted.starts_in(&overlay.root, workdir)?;
    let place = Place {
        root: &overlay.root,
        etc: &etc,
        mounts: &mounts,
        places: &mounted.places(etc.len()),
        identity: &identity,
        in_user_namespace,
        has_tty_group: Maps::read()?.have_group(5),
        own_network: container.network != Network::Host,
        unified_cgroups,
        shm_bytes: container
            .shm_bytes
            .unwrap_or_else(|| crate::default_shm_bytes(container.memory_bytes)),
        hostname: &hostname,
        workdir,
    };
    let mut document = spec::document(container, &place);
    let mut environment = spec::environment(container, &place);
    let mut edits = container.edits.clone();
    edits.extend(devices::edit(&container.devices)?);
    cdi::apply(&edits, in_user_namespace, &mut document, &mut environment)?;
    let more = groups_of(&document, &identity);
    let privileges = privileges(container, &identity, more)?;
    let window = window.or((container.stdio == Stdio::Terminal).then_some((24, 80)));
    let process = Process {
        command: container.command.clone(),
        environment,
        workdir: workdir.to_owned(),
        privileges,
        terminal: window.map(terminal::of_size),
        apparmor: apparmor_profile(container)?,
    };
    let init = first_process(&stage, &document, &process, groups, to_shim)?;
    Ok(Started { init, overlay, process })
}

/// What is wrong with a user that nobody has asked for: the image names it.
fn of_image(container: &Container, error: Error) -> Error {
    match error {
        Error::Invalid { option: "--user", given, why } if container.user_of_image => {
            Error::ImageUser { image: container.image.clone(), given, why }
        }
        error => error,
    }
}

/// Supplementary groups: those of the request, and those that devices need.
fn groups_of(document: &serde_json::Value, identity: &Identity) -> Vec<u32> {
    let more = document["process"]["user"]["additionalGids"].as_array().into_iter().flatten();
    let more = more.filter_map(|gid| u32::try_from(gid.as_u64()?).ok());
    let mut groups = identity.groups.clone();
    for gid in more {
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    groups
}

/// How many notes on a seccomp profile are shown.
const SHOWN: usize = 5;

fn privileges(
    container: &Container,
    identity: &Identity,
    groups: Vec<u32>,
) -> Result<Privileges, Error> {
    let (limits, note) = rlimit::plan(&container.ulimits, ids::raises_limits()?)?;
    note.into_iter().for_each(notice);
    let bounding = capabilities::bounding(&container.capabilities)?;
    let filter = crate::filter::of(container, bounding)?;
    let notes = filter.as_ref().map_or(&[][..], |filter| filter.notes());
    notes.iter().take(SHOWN).for_each(|note| notice(format!("the seccomp profile: {note}")));
    if notes.len() > SHOWN {
        notice(format!("the seccomp profile: {} more notes like these", notes.len() - SHOWN));
    }
    Ok(Privileges {
        uid: identity.uid,
        gid: identity.gid,
        groups,
        groups_are_fixed: ids::groups_are_fixed(),
        bounding,
        // Root drops what it has by capabilities; for others a setuid program is the way up.
        no_new_privileges: container.no_new_privileges || identity.uid != 0,
        waiting_filter: match &container.seccomp {
            Seccomp::Default => filter.clone(),
            _ => crate::filter::of_waiting(container, bounding)?,
        },
        filter,
        limits,
    })
}

/// The AppArmor profile to enter: the one that was named, or sconce's own where it can be loaded.
fn apparmor_profile(container: &Container) -> Result<Option<String>, Error> {
    let host = AppArmor::host();
    match container.apparmor.as_deref() {
        Some("unconfined") => Ok(None),
        // A profile that nobody loaded is refused at the start of the command, by its name.
        Some(name) => Ok(Some(name.to_owned())),
        None => match host.ensure_loaded()? {
            Confinement::Profile(name) => Ok(Some(name.to_owned())),
            Confinement::None(why) => {
                // Root could have had it; without root there never is one.
                if host.available() && !ids::inside_namespace()? {
                    notice(format!("no AppArmor profile: {why}"));
                }
                Ok(None)
            }
        },
    }
}

/// Leaves the host's mounts, and its network where the request says so.
fn enter_namespaces(container: &Container, scratch: &Path) -> Result<(), Error> {
    let pasta = match container.network {
        Network::Private => Some(private::Pasta::wait_for_namespace(&container.ports, scratch)?),
        Network::Host | Network::None => None,
    };
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    if container.network != Network::Host {
        flags |= libc::CLONE_NEWNET;
    }
    os::unshare(flags).map_err(|error| match ids::inside_namespace() {
        Ok(true) => ids::refusal(error),
        _ => Error::Os { what: "making the container's namespaces".to_owned(), source: error },
    })?;
    // What the host mounts or unmounts still arrives; nothing goes back.
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).doing("separating the container's mounts")?;
    if container.network != Network::Host {
        os::raise_loopback().doing("raising the loopback device")?;
    }
    pasta.map_or(Ok(()), private::Pasta::join)
}

/// Hands the configuration to libcontainer; the answer is the first process.
fn first_process(
    stage: &Path,
    document: &serde_json::Value,
    process: &Process,
    groups: &Groups,
    to_shim: OwnedFd,
) -> Result<Pid, Error> {
    trace::listen(|text| {
        // That says of a process that it is gone, and not why.
        if is_of_lost_process(&text) {
            return;
        }
        let _ = control::send(os::borrow(crate::spawn::CONTROL), &Message::Reason(text));
    });
    let config = stage.join("config.json");
    let state = stage.join("state");
    fs::write(&config, document.to_string()).doing_to("writing", &config)?;
    fs::create_dir_all(&state).doing_to("creating", &state)?;
    let me = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .doing("opening a pidfd of the shim")?;
    let init = Init {
        process: process.clone(),
        control: to_shim.as_raw_fd(),
        shim: me.as_raw_fd(),
        groups: groups.made.iter().map(|group| group.entrance.as_raw_fd()).collect(),
    };
    let refused = |error: libcontainer::error::LibcontainerError| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        if is_of_lost_process(&text) { Error::Unmade } else { Error::Container(text) }
    };
    let mut container = ContainerBuilder::new("c".to_owned(), SyscallType::default())
        .with_executor(init)
        .with_root_path(&state)
        .map_err(refused)?
        .as_init(stage)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(refused)?;
    let pid = container.pid().map(|pid| pid.as_raw()).and_then(Pid::from_raw);
    container.start().map_err(refused)?;
    pid.ok_or_else(|| Error::Lost("it has no first process".to_owned()))
}

/// Whether it is what libcontainer says where one of its processes ended without a word.
fn is_of_lost_process(text: &str) -> bool {
    ["BrokenChannel", "channel connection broken"].iter().any(|words| text.contains(words))
}

/// Takes the root down and keeps the changes if that was asked for.
pub(crate) fn tidy(
    container: &Container,
    scratch: &Path,
    overlay: &Overlay,
    clean: bool,
) -> Result<(), Error> {
    overlay.unmount().doing("unmounting the container's root")?;
    if let Some(keep) = container.keep_changes.as_ref().filter(|_| clean) {
        fs::rename(&overlay.upper, keep).doing_to("keeping the changes in", keep)?;
    }
    unmount(scratch);
    Ok(())
}

/// Unmounts whatever is mounted below `scratch`: a start may have failed with any part of it.
pub(crate) fn unmount(scratch: &Path) {
    let _ = std::env::set_current_dir("/");
    // With all that is mounted on it. What is not mounted need not be unmounted.
    let _ = rustix::mount::unmount(scratch.join(STAGE), UnmountFlags::DETACH);
}
