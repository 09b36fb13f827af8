//! What a running container uses.

use std::fs;
use std::path::PathBuf;

use crate::memory::number_in;

/// What a container uses, as its cgroups count it, or the sum over its processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Its limit, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processor time since the start, in microseconds.
    pub processor_microseconds: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// What the processes of these groups use.
pub(crate) fn usage(groups: &[PathBuf]) -> Usage {
    let number = |names: &[&str]| {
        let files = groups.iter().flat_map(|group| names.iter().map(|name| group.join(name)));
        files.into_iter().find_map(|file| number_in(&file))
    };
    let processor = groups.iter().find_map(|group| {
        let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
    });
    let members =
        groups.iter().find_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
    let members: Vec<(u64, u64)> =
        members.iter().flat_map(|text| text.lines()).filter_map(of_process).collect();
    let sum = |of: fn(&(u64, u64)) -> u64| {
        (!members.is_empty()).then(|| members.iter().map(of).sum::<u64>())
    };
    Usage {
        memory_bytes: number(&["memory.current", "memory.usage_in_bytes"])
            .or_else(|| sum(|(memory, _)| *memory)),
        memory_limit_bytes: number(&["memory.max", "memory.limit_in_bytes"])
            .filter(|limit| *limit < 1 << 60),
        processor_microseconds: processor.or_else(|| sum(|(_, processor)| *processor)),
        processes: number(&["pids.current"]),
    }
}

/// Resident memory in bytes and processor time in microseconds of a process (proc(5)), where no
/// controller counts them.
fn of_process(pid: &str) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets; what follows it is numbers, from field 3 on.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    let (user, system, resident) = (number(14)?, number(15)?, number(24)?);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    Some((resident * page, (user + system) * 1_000_000 / ticks))
}
