//! Which processors a container may use, and how many of them at once.
//!
//! Children inherit the set of processors of the process that starts them (sched_setaffinity(2)): a
//! choice that the caller made (taskset, numactl, a batch system's cpuset) stays.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::cgroup;

/// The processors that this process may run on, in order; nothing where the kernel does not say.
#[must_use]
pub fn processors() -> Option<Vec<usize>> {
    let set = sched_getaffinity(None).ok()?;
    Some((0..CpuSet::MAX_CPU).filter(|number| set.is_set(*number)).collect())
}

/// How much processor time this process's cgroups leave it, in cores; nothing for no limit.
#[must_use]
pub fn processor_limit() -> Option<f64> {
    cgroup::processor_limit()
}

/// Keeps this process, and what it starts, on these processors. The answer says why it could not.
pub(crate) fn stay_on(numbers: &[usize]) -> Option<String> {
    let mut set = CpuSet::new();
    for number in numbers.iter().filter(|number| **number < CpuSet::MAX_CPU) {
        set.set(*number);
    }
    let error = sched_setaffinity(None, &set).err()?;
    Some(format!("the container is not kept on the processors near its GPUs: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_stays() {
        let all = processors().expect("this machine says");
        let last = all.last().copied().expect("at least one");
        // Another thread's set is not this test's to change: only that of its own thread is.
        std::thread::spawn(move || {
            assert_eq!(stay_on(&[last]), None);
            assert_eq!(processors(), Some(vec![last]));
            assert!(stay_on(&[]).is_some());
        })
        .join()
        .expect("the thread's checks");
    }
}
