//! The processes below one that anybody started, as `/proc` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Most processes that are looked at.
const MOST: usize = 4096;
const LONGEST: usize = 1 << 20;

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// Its command line, in one line.
    pub(crate) words: String,
    pub(crate) env: BTreeMap<String, String>,
}

/// A process and all below it, parents first.
pub(crate) fn below(root: u32) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let fields = fields(&format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = fields.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut open = vec![(root, 0)];
    while let Some((pid, parent)) = open.pop() {
        if found.len() >= MOST || !seen.insert(pid) {
            continue;
        }
        let env = read(&format!("/proc/{pid}/environ"));
        let env = env.split('\0').filter_map(|item| item.split_once('='));
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let words = read(&format!("/proc/{pid}/cmdline")).replace('\0', " ").trim().to_owned();
        found.push(Process { pid, parent, words, env });
        let below = children.get(&pid).into_iter().flatten().rev();
        open.extend(below.map(|child| (*child, pid)));
    }
    found
}

impl Process {
    /// Its rank, where whatever started it said one.
    pub(crate) fn rank(&self) -> Option<u32> {
        self.env.get("RANK")?.parse().ok()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.env.get(name)?.parse().ok()
    }

    /// What its main thread is called in its own PID namespace.
    pub(crate) fn inner(&self) -> u64 {
        let status = read(&format!("/proc/{}/status", self.pid));
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inner = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
        inner.unwrap_or_else(|| self.pid.into())
    }

    /// The kernel's letter: R, S, D, Z.
    pub(crate) fn state(&self) -> String {
        letter(self.pid, self.pid).unwrap_or_else(|| "gone".to_owned())
    }

    /// Ticks of a clock that all its threads used: utime and stime of proc(5).
    pub(crate) fn ticks(&self) -> u64 {
        let text = fields(&format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The 14th and 15th; `fields` begins with the third.
        let used = text.split_whitespace().skip(11).take(2);
        used.filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    /// What each of its threads waits for, a line each.
    pub(crate) fn threads(&self) -> String {
        let entries =
            fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let mut ids: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        ids.sort_unstable();
        let line = |id: &u32| {
            let base = format!("/proc/{}/task/{id}", self.pid);
            let one = |name: &str| read(&format!("{base}/{name}")).trim().to_owned();
            let state = letter(self.pid, *id).unwrap_or_else(|| "gone".to_owned());
            let (name, wchan, syscall) = (one("comm"), one("wchan"), one("syscall"));
            format!(
                "thread {id:7}  {state}  {name:16} waits at: {wchan:28} system call: {syscall}\n"
            )
        };
        ids.iter().take(MOST).map(line).collect()
    }
}

fn read(path: &str) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        drop(file.take(LONGEST as u64).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What stands behind the name in a `stat`: its fields from the third on.
fn fields(path: &str) -> Option<String> {
    Some(read(path).rsplit_once(')')?.1.to_owned())
}

fn letter(pid: u32, thread: u32) -> Option<String> {
    let fields = fields(&format!("/proc/{pid}/task/{thread}/stat"))?;
    fields.split_whitespace().next().map(str::to_owned)
}
