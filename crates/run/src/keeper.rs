//! The process between the caller and the container: it owns the namespaces and mounts.
//!
//! It is forked from the caller, has one thread, and dies when the caller does; the mounts
//! are in its own mount namespace and end with it. Inside, libcontainer runs as root of the
//! user namespace the keeper is in, so that one path serves root and everyone else.

use std::fs;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::termios::Winsize;

use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::ids::{self, Power};
use crate::init::Init;
use crate::overlay::Overlay;
use crate::spec::{self, Place};
use crate::{Container, Network, cdi, cgroup, etc, os, overlay, processors, rlimit, trace, user};

/// The number that the socket to the caller has in the keeper and in the first process.
const CONTROL: RawFd = 3;

/// What the caller decided before it forked.
pub(crate) struct Plan<'a> {
    /// The request; its paths are absolute.
    pub(crate) container: &'a Container,
    pub(crate) power: Power,
    /// Standard input, output and error; `None` leaves the caller's.
    pub(crate) streams: [Option<OwnedFd>; 3],
    /// The terminal to make, if one is.
    pub(crate) terminal: Option<Winsize>,
    pub(crate) hostname: &'a str,
    pub(crate) shm_bytes: u64,
    pub(crate) caller: Pid,
    /// What killed runs left behind, for the keeper to remove.
    pub(crate) left: &'a [PathBuf],
}

/// The life of the keeper: its exit status. All it has to say goes over `control`.
pub(crate) fn keep(plan: &Plan<'_>, control: &OwnedFd) -> i32 {
    if let Err(error) = settle(plan, control).and_then(|()| contain(plan)) {
        let failed = Message::Failed { message: error.chain(), hint: error.hint() };
        drop(control::send(os::borrow(CONTROL), &failed));
        return 1;
    }
    0
}

fn notice(text: impl Into<String>) {
    drop(control::send(os::borrow(CONTROL), &Message::Notice(text.into())));
}

fn wait_for_go() -> Result<(), Error> {
    match control::receive(os::borrow(CONTROL)).doing("waiting for the caller")? {
        Some(Message::Go) => Ok(()),
        _ => Err(Error::Lost("the caller is gone".to_owned())),
    }
}

/// Makes a process of its own of what was forked.
fn settle(plan: &Plan<'_>, control: &OwnedFd) -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing("binding the container's life to the caller's")?;
    if rustix::process::getppid() != Some(plan.caller) {
        return Err(Error::Lost("the caller is gone".to_owned()));
    }
    os::block_signals();
    for (fd, stream) in (0..).zip(&plan.streams) {
        if let Some(stream) = stream {
            os::place(stream.as_fd(), fd).doing("joining the standard streams")?;
        }
    }
    os::place(control.as_fd(), CONTROL).doing("keeping the socket to the caller")?;
    os::close_from(CONTROL as u32 + 1);
    // The keyboard's signals are the caller's to pass on.
    rustix::process::setsid().doing("leaving the caller's session")?;
    // The caller may have put this process into a cgroup by now; the namespaces come after.
    wait_for_go()
}

fn contain(plan: &Plan<'_>) -> Result<(), Error> {
    let container = plan.container;
    if let Some(text) = rlimit::raise() {
        notice(text);
    }
    if let Some(text) = container.processors.as_deref().and_then(processors::stay_on) {
        notice(text);
    }
    enter_namespaces(plan)?;
    let in_user_namespace = ids::inside_namespace()?;
    let unified_cgroups = cgroup::unified();
    hide_cgroups(in_user_namespace)?;

    let keep = container.keep_changes.is_some();
    let overlay = overlay::mount(&container.lowers, &container.folder, in_user_namespace, keep)?;
    if overlay.in_memory {
        notice(format!(
            "{} cannot hold an overlay's changes; what the container writes to its root stays in memory",
            container.folder.display()
        ));
    }
    let root = fs::File::open(&overlay.root).doing_to("opening", &overlay.root)?;
    let passwd = user::read_in(&root, "/etc/passwd")?;
    let group = user::read_in(&root, "/etc/group")?;
    let identity = user::resolve(container.user.as_deref(), &passwd, &group)?;
    check_mapped(container, &identity)?;
    let workdir = container.workdir.as_deref().unwrap_or(Path::new("/"));
    user::create_folder_in(&root, workdir)?;
    drop(root);

    let shares_network = container.network == Network::Host;
    let etc = etc::write(&container.folder.join("etc"), plan.hostname, shares_network)?;
    let place = Place {
        root: &overlay.root,
        etc: &etc,
        identity: &identity,
        in_user_namespace,
        has_tty_group: ids::is_mapped("gid_map", 5)?,
        own_network: !shares_network,
        unified_cgroups,
        shm_bytes: plan.shm_bytes,
        hostname: plan.hostname,
        workdir,
    };
    let mut document = spec::document(container, &place);
    let mut environment = spec::environment(container, &place);
    cdi::apply(&container.edits, in_user_namespace, &mut document, &mut environment)?;
    if groups_are_fixed()
        && let Some(user) = document["process"]["user"].as_object_mut()
    {
        user.remove("additionalGids");
    }
    let started = start(plan, &document, environment).and_then(watch);
    let tidied = tidy(container, &overlay, started.is_ok());
    for folder in plan.left {
        // The next run tries again.
        let _ = fs::remove_dir_all(folder);
    }
    started.and(tidied)
}

/// Leaves the host's mounts, and its users and network where the request says so.
fn enter_namespaces(plan: &Plan<'_>) -> Result<(), Error> {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    if plan.container.network != Network::Host {
        flags |= libc::CLONE_NEWNET;
    }
    match plan.power {
        Power::Root => os::unshare(flags).doing("making the container's namespaces")?,
        Power::User => {
            os::unshare(libc::CLONE_NEWUSER).map_err(ids::refusal)?;
            control::send(os::borrow(CONTROL), &Message::MapMe).doing("asking for id maps")?;
            wait_for_go()?;
            os::become_root().map_err(ids::refusal)?;
            // Ubuntu lets the namespace be made and takes its powers away: seen only here.
            os::unshare(flags).map_err(ids::refusal)?;
        }
    }
    // What the host mounts or unmounts still arrives; nothing goes back.
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).doing("separating the container's mounts")?;
    if plan.container.network != Network::Host {
        os::raise_loopback().doing("raising the loopback device")?;
    }
    Ok(())
}

/// Shows libcontainer a place without cgroups. It insists on putting the container into
/// one, and in every tree there is; limits are set already ([`cgroup::Groups`]), and making
/// and removing a group in each of a dozen v1 trees takes longer than all the rest.
///
/// As root the trees are unmounted here and an empty tmpfs stands for a machine without
/// controllers. Inherited mounts cannot be unmounted in a user namespace, so there it sees
/// cgroup v2, read-only: it takes the refusal to make [`spec::NO_CGROUP`] for an answer.
/// That group must not exist, ever: when libcontainer gives up on a container it kills every
/// process of the container's group.
fn hide_cgroups(in_user_namespace: bool) -> Result<(), Error> {
    let top = "/sys/fs/cgroup";
    if in_user_namespace {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        // Where v2 is all there is, the kernel refuses to mount it on itself: something between.
        rustix::mount::mount("tmpfs", top, "tmpfs", flags, Some(c"size=4k"))
            .doing_to("hiding", top)?;
        rustix::mount::mount("cgroup2", top, "cgroup2", flags, None)
            .doing("mounting this process's cgroup")?;
        let seen = rustix::fs::statvfs(top).doing("looking at this process's cgroup")?;
        let group = format!("{top}{}", spec::NO_CGROUP);
        if !seen.f_flag.contains(StatVfsMountFlags::RDONLY) || Path::new(&group).exists() {
            return Err(Error::Container(format!("{group} could be made or is there already")));
        }
        return Ok(());
    }
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").doing("reading /proc/self/mountinfo")?;
    let points: Vec<&str> = mounts
        .lines()
        .filter(|line| line.split_once(" - ").is_some_and(|(_, kind)| kind.starts_with("cgroup")))
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    // The last mounted first, and whatever carries the trees at the end.
    for point in points.into_iter().rev() {
        rustix::mount::unmount(point, UnmountFlags::DETACH).doing_to("hiding", point)?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", top, "tmpfs", flags, Some(c"size=4k")).doing_to("hiding", top)
}

/// Refuses a user that does not exist in the keeper's user namespace, where the kernel would
/// only say "invalid argument".
fn check_mapped(container: &Container, identity: &user::Identity) -> Result<(), Error> {
    if ids::is_mapped("uid_map", identity.uid)? && ids::is_mapped("gid_map", identity.gid)? {
        return Ok(());
    }
    Err(Error::Invalid {
        option: "--user",
        given: container.user.clone().unwrap_or_default(),
        why: "without root, other users need the uidmap package and lines in /etc/subuid and /etc/subgid"
            .to_owned(),
    })
}

/// Supplementary groups cannot be set in this user namespace (user_namespaces(7)): those of
/// the caller stay, and with them what they open.
fn groups_are_fixed() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Hands the configuration to libcontainer; the answer is the first process.
fn start(
    plan: &Plan<'_>,
    document: &serde_json::Value,
    environment: Vec<(String, String)>,
) -> Result<Pid, Error> {
    trace::listen(|text| {
        let _ = control::send(os::borrow(CONTROL), &Message::Reason(text));
    });
    let scratch = &plan.container.folder;
    let config = scratch.join("config.json");
    let state = scratch.join("state");
    fs::write(&config, document.to_string()).doing_to("writing", &config)?;
    fs::create_dir_all(&state).doing_to("creating", &state)?;
    let init = Init {
        command: plan.container.command.clone(),
        environment,
        control: CONTROL,
        terminal: plan.terminal,
    };
    let refused = |error: libcontainer::error::LibcontainerError| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Error::Container(text)
    };
    let mut container = ContainerBuilder::new("c".to_owned(), SyscallType::default())
        .with_executor(init)
        .with_root_path(&state)
        .map_err(refused)?
        .as_init(scratch)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(refused)?;
    let pid = container.pid().map(|pid| pid.as_raw()).and_then(Pid::from_raw);
    container.start().map_err(refused)?;
    pid.ok_or_else(|| Error::Lost("it has no first process".to_owned()))
}

/// Passes the caller's signals to the container until its first process ends.
fn watch(init: Pid) -> Result<(), Error> {
    let life = rustix::process::pidfd_open(init, PidfdFlags::empty())
        .doing("watching the container's first process")?;
    let control = os::borrow(CONTROL);
    loop {
        let mut fds = [PollFd::new(&control, PollFlags::IN), PollFd::new(&life, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).doing("waiting for the container")?;
        let (said, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if ended {
            break;
        }
        if said
            && let Some(Message::Signal(number)) =
                control::receive(control).doing("listening to the caller")?
            && let Some(signal) = Signal::from_named_raw(number)
        {
            let _ = rustix::process::pidfd_send_signal(&life, signal);
        }
    }
    let status = rustix::process::waitpid(Some(init), WaitOptions::empty())
        .doing("collecting the container's first process")?;
    match status.and_then(|(_, status)| status.terminating_signal()) {
        // It says itself how the command ended, unless something killed it: the kernel's
        // out-of-memory killer does.
        Some(signal) => {
            Err(Error::Lost(format!("its first process was killed by signal {signal}")))
        }
        None => Ok(()),
    }
}

/// Takes the root down, keeps the changes if that was asked for, and removes the rest: here
/// and not in the caller, as the files may belong to users that only exist here.
fn tidy(container: &Container, overlay: &Overlay, clean: bool) -> Result<(), Error> {
    std::env::set_current_dir("/").doing("leaving the scratch folder")?;
    overlay.unmount().doing("unmounting the container's root")?;
    if overlay.in_memory {
        let memory = container.folder.join("m");
        rustix::mount::unmount(&memory, UnmountFlags::DETACH).doing_to("unmounting", &memory)?;
    }
    if let Some(keep) = container.keep_changes.as_ref().filter(|_| clean) {
        fs::rename(&overlay.upper, keep).doing_to("keeping the changes in", keep)?;
    }
    fs::remove_dir_all(&container.folder).doing_to("removing", &container.folder)
}
