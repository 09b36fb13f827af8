//! Several machines at once: their names, their snapshots over ssh, and one table that says who deviates.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Error;
use crate::report::{Report, Severity, Verdict, examine, plain};
use crate::saved::LONGEST;
use crate::snapshot::Snapshot;

/// Machines asked at the same time.
const AT_ONCE: usize = 32;
/// Machines in one call.
const MOST: usize = 4096;
/// A machine has this long to answer; opening nodes and NVML have their own, shorter bounds there.
const PATIENCE: Duration = Duration::from_secs(90);

/// The names in words such as `node1`, `node[2-8,10]` and `node1,node2`; numbers keep their leading zeros, as Slurm and pdsh write them.
///
/// # Errors
/// A bracket that is not closed, a range that runs backwards, a name that ssh would take for an option, or more than
/// 4096 names.
pub fn names(words: &[String]) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for word in words.iter().flat_map(|word| between_commas(word)) {
        let bad = |reason: &str| Error::Host { word: word.to_owned(), reason: reason.to_owned() };
        let legal = |char: char| char.is_ascii_alphanumeric() || "._-@:[],".contains(char);
        if word.is_empty() {
            return Err(bad("a name is missing: before or behind a comma, or altogether"));
        }
        if word.starts_with('-') || !word.chars().all(legal) {
            return Err(bad("a name has letters, digits, and `.`, `_`, `-`, `@`"));
        }
        let Some((before, rest)) = word.split_once('[') else {
            names.push(word.to_owned());
            continue;
        };
        let (list, after) = rest.split_once(']').ok_or_else(|| bad("a `[` is not closed"))?;
        if after.contains('[') || after.contains(']') || list.contains('[') {
            return Err(bad("one pair of brackets is understood"));
        }
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = first.parse::<u32>().ok().zip(last.parse::<u32>().ok());
            let (from, to) = range.filter(|(from, to)| from <= to).ok_or_else(|| {
                bad("brackets hold numbers and ranges of them, as in `node[1-4,7]`")
            })?;
            for number in from..=to {
                if names.len() >= MOST {
                    return Err(bad("these are more than 4096 machines"));
                }
                names.push(format!("{before}{number:0width$}{after}", width = first.len()));
            }
        }
    }
    Ok(names)
}

/// The parts of a word between its commas, those in brackets aside.
fn between_commas(word: &str) -> Vec<&str> {
    let mut inside = false;
    let comma = |char: char| {
        match char {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        char == ',' && !inside
    };
    word.split(comma).collect()
}

/// A machine, and what came of asking it.
#[derive(Debug)]
pub struct Asked {
    /// Its name.
    pub host: String,
    /// Its snapshot, or why there is none.
    pub answer: Result<Snapshot, String>,
}

/// Asks machines for their snapshots with the user's own ssh, some at a time. `program` is sconce's name there.
pub fn ask(hosts: &[String], program: &str) -> Vec<Asked> {
    let mut asked = Vec::new();
    for group in hosts.chunks(AT_ONCE) {
        let answers: Vec<Result<Snapshot, String>> = thread::scope(|scope| {
            let threads: Vec<_> =
                group.iter().map(|host| scope.spawn(|| one(host, program))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err("asking it failed".to_owned()))
            };
            threads.into_iter().map(join).collect()
        });
        let group = group.iter().cloned().zip(answers);
        asked.extend(group.map(|(host, answer)| Asked { host, answer }));
    }
    asked
}

/// The user's own ssh to a machine, whose options and agent are theirs, with these more (`-o`'s words); what is to run
/// there is to be added as words.
pub fn ssh(host: &str, options: &[&str]) -> Command {
    // No questions: many machines are asked at once. `--` ends ssh's options.
    let mut ssh = Command::new("ssh");
    ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
    options.iter().for_each(|option| _ = ssh.args(["-o", option]));
    ssh.args(["--", host]);
    ssh
}

fn one(host: &str, program: &str) -> Result<Snapshot, String> {
    let mut ssh = ssh(host, &[]);
    ssh.args([program, "doctor", "--save", "-"]).stdin(Stdio::null());
    let mut child = ssh
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("ssh can't be started: {error}"))?;
    let reader = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = String::new();
            let read = stream.map(|stream| stream.take(LONGEST + 1).read_to_string(&mut text));
            (text, read)
        })
    };
    let out = reader(child.stdout.take().map(|stream| Box::new(stream) as _));
    let errors = reader(child.stderr.take().map(|stream| Box::new(stream) as _));
    let success = wait(&mut child)?;
    let (text, read) = out.join().unwrap_or_default();
    let (said, _) = errors.join().unwrap_or_default();
    // ssh fails too when nobody reads on.
    if text.len() as u64 > LONGEST {
        return Err(format!("its answer is longer than the {LONGEST} bytes of a snapshot"));
    }
    if matches!(read, Some(Err(_))) {
        return Err("its answer is not text".to_owned());
    }
    if !success {
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        return Err(last.unwrap_or("ssh failed without a word").trim().to_owned());
    }
    Snapshot::parse(&text, host.as_ref()).map_err(|error| error.to_string())
}

/// Waits for ssh, and ends it when it has had its time.
fn wait(child: &mut Child) -> Result<bool, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What machines have in common, where they do.
const COLUMNS: [&str; 3] = ["GPUs and driver", "kernel", "system"];

fn columns(snapshot: &Snapshot, report: &Report) -> [String; 3] {
    let os = snapshot.os.as_ref();
    let os = os.map_or_else(String::new, |os| {
        format!("{} {}", os.id, os.version.as_deref().unwrap_or_default())
    });
    [report.machine.clone(), snapshot.kernel.clone().unwrap_or_default(), os.trim().to_owned()]
}

/// All machines, judged.
#[derive(Debug)]
pub struct Fleet {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    host: String,
    judged: Result<(Report, [String; 3]), String>,
    /// Columns in which it differs from most.
    deviates: Vec<&'static str>,
}

impl Fleet {
    /// Judges all that answered.
    pub fn judge(asked: Vec<Asked>) -> Self {
        let mut rows: Vec<Row> = asked
            .into_iter()
            .map(|Asked { host, answer }| {
                let judged = answer.map(|snapshot| {
                    let report = examine(&snapshot, None);
                    let columns = columns(&snapshot, &report);
                    (report, columns)
                });
                Row { host, judged, deviates: Vec::new() }
            })
            .collect();
        for (at, name) in COLUMNS.iter().enumerate() {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for row in &rows {
                if let Ok((_, columns)) = &row.judged {
                    *counts.entry(columns[at].clone()).or_default() += 1;
                }
            }
            let most = counts.values().max().copied().unwrap_or_default();
            // Where two values are as common, each machine is told with its own.
            let tie = counts.values().filter(|count| **count == most).count() > 1;
            for row in &mut rows {
                let common = |value: &String| counts.get(value).copied().unwrap_or_default();
                if let Ok((_, columns)) = &row.judged
                    && (tie || common(&columns[at]) < most)
                {
                    row.deviates.push(name);
                }
            }
        }
        Self { rows }
    }

    /// The exit code for the worst: 1 something stops a machine, 5 one did not answer, 12 it can't be told of one, 10 one has no
    /// GPU, else 0.
    pub fn exit_code(&self) -> u8 {
        let verdicts = || self.rows.iter().filter_map(|row| row.judged.as_ref().ok());
        let any = |wanted| verdicts().any(|(report, _)| report.verdict == wanted);
        match () {
            () if any(Verdict::Blocked) => 1,
            () if verdicts().count() < self.rows.len() => 5,
            () if any(Verdict::CantTell) => Verdict::CantTell.exit_code(),
            () if any(Verdict::NoGpu) => Verdict::NoGpu.exit_code(),
            () => 0,
        }
    }

    /// One line for each machine, then what most of them have in common.
    pub fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.host.len()).max().unwrap_or_default();
        let mut out = String::new();
        for row in &self.rows {
            let host = &row.host;
            match &row.judged {
                Err(why) => _ = writeln!(out, "{host:width$}  no answer  {}", plain(why)),
                Ok((report, columns)) => {
                    let word = match report.verdict {
                        Verdict::Ready => "ready",
                        Verdict::ReadyWithWarnings => "warns",
                        Verdict::CantTell => "unknown",
                        Verdict::Blocked => "BLOCKED",
                        Verdict::NoGpu => "no GPU",
                    };
                    let worst = report.findings.iter().filter(|f| f.severity != Severity::Notes);
                    let mut ids: Vec<&str> = worst.map(|finding| finding.rule.id).collect();
                    ids.dedup();
                    let ids = if ids.is_empty() { "-".to_owned() } else { ids.join(", ") };
                    let mut line = format!("{host:width$}  {word:9}  {ids}");
                    for (at, name) in COLUMNS.iter().enumerate() {
                        if row.deviates.contains(name) {
                            line += &format!("; {name} differ: {}", plain(&columns[at]));
                        }
                    }
                    _ = writeln!(out, "{line}");
                }
            }
        }
        let common = self.rows.iter().find_map(|row| {
            let (_, columns) = row.judged.as_ref().ok()?;
            row.deviates.is_empty().then_some(columns)
        });
        if let Some(columns) = common {
            let known: Vec<String> =
                columns.iter().filter(|text| !text.is_empty()).map(|text| plain(text)).collect();
            _ = writeln!(out, "most: {}", known.join("; "));
        }
        out
    }

    /// For scripts: `schema` 1.
    pub fn json(&self) -> Value {
        let hosts = self.rows.iter().map(|row| match &row.judged {
            Ok((report, _)) => {
                json!({ "host": row.host, "report": report.json(), "deviates": row.deviates })
            }
            Err(why) => json!({ "host": row.host, "error": why }),
        });
        let hosts: Vec<Value> = hosts.collect();
        json!({ "schema": 1, "exit_code": self.exit_code(), "hosts": hosts })
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_are_counted_out() {
        let all = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            names(&words).map(|names| names.join(" "))
        };
        assert_eq!(
            all(&["gpu1", "gpu[08-11,20].lab"]).unwrap(),
            "gpu1 gpu08.lab gpu09.lab gpu10.lab gpu11.lab gpu20.lab"
        );
        assert_eq!(all(&["a,b", "gpu[1,3],lab"]).unwrap(), "a b gpu1 gpu3 lab");
        for bad in [
            "-oProxyCommand=x",
            "a,-oProxyCommand=x",
            "a,,b",
            "a,",
            "a[1-",
            "a[2-1]",
            "a[x]",
            "a[1][2]",
            "a b",
            "a;b",
            "",
            "a[1-9999999]",
        ] {
            assert!(all(&[bad]).is_err(), "{bad}");
        }
    }
}
