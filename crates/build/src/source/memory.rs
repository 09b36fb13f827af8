//! How many compilers run at a time.

/// What one compiler takes, bytes: nvcc's passes over templates of torch reach this much.
const NVCC: u64 = 4 << 30;
const CXX: u64 = 1 << 30;

/// Jobs for so many threads: no more than memory has room for, and never none.
pub(super) fn jobs(threads: usize, cuda: bool) -> usize {
    // /dev/shm has half of the memory that there is for this process.
    fitting(threads, sconce_run::default_shm_bytes(None) * 2, cuda)
}

fn fitting(threads: usize, memory: u64, cuda: bool) -> usize {
    let each = if cuda { NVCC } else { CXX };
    threads.min(usize::try_from(memory / each).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn jobs_go_by_memory_and_threads() {
        assert_eq!(fitting(64, 32 << 30, true), 8);
        assert_eq!(fitting(64, 32 << 30, false), 32);
        assert_eq!(fitting(2, 32 << 30, true), 2);
        assert_eq!(fitting(8, 1 << 30, true), 1);
    }
}
