//! A screen full: machines, their GPUs, what is wrong, processes. Names are cut to the width, and steer nothing.

use sconce_monitor::metric::Metric;
use sconce_monitor::sample::{Gpu, Instance, Process};

use super::machines::{Machine, Now};
use super::tables::{GIB, absent, busy, of_process, plain, running, shown};

/// How processes are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Gpu,
    Memory,
    User,
    Name,
}

/// What keys have changed.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// How processes are sorted.
    pub sort: Sort,
    /// Only processes that have this somewhere.
    pub filter: String,
    /// How far the processes are scrolled, or all of it.
    pub scroll: usize,
    /// What is being typed, or was said last.
    pub line: Option<String>,
}

impl Sort {
    /// The next one.
    pub fn next(self) -> Self {
        match self {
            Self::Gpu => Self::Memory,
            Self::Memory => Self::User,
            Self::User => Self::Name,
            Self::Name => Self::Gpu,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Gpu => "GPU",
            Self::Memory => "memory",
            Self::User => "user",
            Self::Name => "name",
        }
    }
}

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const BLUE: &str = "\x1b[34m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";
const REVERSE: &str = "\x1b[7m";
/// Eighths of a row.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Rows that processes have at least, with their head: where GPUs leave fewer all scrolls.
const FEW: usize = 6;

/// The lines of a screen of so many rows and columns. What was scrolled past the end is scrolled back to it.
pub fn lines(
    machines: &[Machine],
    state: &mut State,
    (rows, columns): (usize, usize),
) -> Vec<String> {
    let mut upper = Vec::new();
    for machine in machines {
        head(machine, columns, &mut upper);
        if let Some(Ok(now)) = &machine.answer {
            for (at, gpu) in now.sample.gpus.iter().enumerate() {
                let past: Vec<f64> =
                    machine.busy.get(at).map_or(Vec::new(), |past| past.iter().copied().collect());
                upper.push(of_gpu(gpu, &past, columns));
                let instances = gpu.instances.iter().filter(|_| absent(gpu).is_none());
                upper.extend(instances.map(|one| of_instance(gpu, one, columns)));
            }
            findings(now, columns, &mut upper);
        }
    }
    let all = processes(machines, state, columns);
    let title = format!(
        "{}GPU     PID USER          MEMORY CONTAINER          IMAGE / PROGRAM",
        if machines.len() > 1 { "MACHINE          " } else { "" }
    );
    let title = format!("{REVERSE}{:<columns$}", plain(&title, columns));
    let body = rows.saturating_sub(1);
    let count = all.len();
    let mut lines = Vec::new();
    let mut shown = String::new();
    if upper.len() + FEW.min(count + 1) <= body {
        // The GPUs stay, and the processes scroll.
        let room = body - upper.len() - 1;
        state.scroll = state.scroll.min(count.saturating_sub(room));
        lines.append(&mut upper);
        lines.push(title);
        lines.extend(all.into_iter().skip(state.scroll).take(room));
    } else {
        let whole: Vec<String> = upper.into_iter().chain([title]).chain(all).collect();
        state.scroll = state.scroll.min(whole.len().saturating_sub(body));
        shown = format!(
            "  lines {}-{} of {}",
            state.scroll + 1,
            whole.len().min(state.scroll + body),
            whole.len()
        );
        lines.extend(whole.into_iter().skip(state.scroll).take(body));
    }
    let bottom = match &state.line {
        Some(line) => line.clone(),
        None => format!(
            "q end  s sort: {}  / filter: {}  k signal  {count} processes{shown}",
            state.sort.word(),
            if state.filter.is_empty() { "none" } else { &state.filter },
        ),
    };
    lines.push(format!("{BOLD}{}", plain(&bottom, columns)));
    lines
}

fn head(machine: &Machine, columns: usize, lines: &mut Vec<String>) {
    let name = machine.name.as_deref().unwrap_or("this machine");
    let text = match &machine.answer {
        None => format!("{name}: waiting"),
        Some(Err(silent)) => format!("{name}: {}", silent.why),
        Some(Ok(now)) => {
            let driver = now.sample.driver.as_deref().unwrap_or("unknown");
            format!("{name}  driver {driver}")
        }
    };
    let colour = if matches!(machine.answer, Some(Err(_))) { RED } else { BOLD };
    lines.push(format!("{colour}{}", plain(&text, columns)));
    if matches!(machine.answer, Some(Ok(_))) {
        let title = format!(
            "GPU {:<16} {:>5} {:<room$} {:>6} {:>12} {:>11} {:>5} {:>7}",
            "MODEL",
            "BUSY",
            "HISTORY",
            "TENSOR",
            "MEMORY, GiB",
            "POWER, W",
            "HEAT",
            "CLOCK",
            room = history(columns),
        );
        lines.push(format!("{REVERSE}{:<columns$}", plain(&title, columns)));
    }
}

/// Columns of the history: what the other columns leave, 73.
fn history(columns: usize) -> usize {
    columns.saturating_sub(73).clamp(7, 70)
}

/// A row of an instance of MIG, below its GPU's.
fn of_instance(gpu: &Gpu, one: &Instance, columns: usize) -> String {
    let value = |metric| one.values.get(metric);
    let name = format!("{}:{} {}", gpu.index, one.gpu_instance, one.profile);
    let memory = format!(
        "{}/{}",
        shown(value(Metric::MemoryUsed), GIB, ""),
        shown(value(Metric::MemoryTotal), GIB, "")
    );
    let text = format!(
        "  {:<18} {:>5} {:<room$} {:>6} {memory:>12}",
        plain(&name, 18),
        shown(value(Metric::SmActive), 100.0, "%"),
        "",
        shown(value(Metric::Tensor), 100.0, "%"),
        room = history(columns),
    );
    plain(&text, columns)
}

fn of_gpu(gpu: &Gpu, past: &[f64], columns: usize) -> String {
    let value = |metric| gpu.values.get(metric);
    if let Some(why) = absent(gpu) {
        let text = format!("{:>3} {} {why}", gpu.index, gpu.model);
        return format!("{RED}{}", plain(&text, columns));
    }
    let busy = busy(gpu);
    // The product's name is the same everywhere; what tells cards apart comes first.
    let model = gpu.model.trim_start_matches("NVIDIA ");
    let room = history(columns);
    let newest = past.len().saturating_sub(room);
    let history: String = past.iter().skip(newest).map(|busy| bar(*busy)).collect();
    let of = |used: Option<f64>, all: Option<f64>, by: f64| {
        format!("{}/{}", shown(used, by, ""), shown(all, by, ""))
    };
    let colour = match busy {
        Some(busy) if busy >= 0.8 => GREEN,
        Some(busy) if busy >= 0.1 => YELLOW,
        _ => PLAIN,
    };
    let heat = match value(Metric::TemperatureMargin) {
        Some(margin) if margin <= 5.0 => RED,
        _ => PLAIN,
    };
    let text = format!(
        "{:>3} {:<16} {colour}{:>5} {history:<room$}{PLAIN} {:>6} {:>12} {:>11} {heat}{:>5}{PLAIN} {:>7}",
        gpu.index,
        plain(model, 16),
        shown(busy, 100.0, "%"),
        shown(value(Metric::Tensor), 100.0, "%"),
        of(value(Metric::MemoryUsed), value(Metric::MemoryTotal), GIB),
        of(value(Metric::Power), value(Metric::PowerLimit), 1.0),
        shown(value(Metric::Temperature), 1.0, "C"),
        shown(value(Metric::SmClock), 1e-6, ""),
    );
    cut(&text, columns)
}

fn findings(now: &Now, columns: usize, lines: &mut Vec<String>) {
    for one in now.findings.iter().take(8) {
        let colour = match one.severity.as_str() {
            "critical" => RED,
            "warning" => YELLOW,
            _ => BLUE,
        };
        let on = one.gpu.map(|gpu| format!(" GPU {gpu}")).unwrap_or_default();
        let text = format!("  {}{on}: {}: {}", one.rule, one.title, one.evidence);
        lines.push(format!("{colour}{}", plain(&text, columns)));
    }
}

/// Processes as rows, sorted and filtered.
fn processes(machines: &[Machine], state: &State, columns: usize) -> Vec<String> {
    let mut all: Vec<(String, &Gpu, &Process)> = Vec::new();
    for machine in machines {
        let Some(Ok(now)) = &machine.answer else { continue };
        let name = machine.name.clone().unwrap_or_default();
        for gpu in &now.sample.gpus {
            all.extend(running(gpu).map(|process| (name.clone(), gpu, process)));
        }
    }
    match state.sort {
        Sort::Gpu => {}
        Sort::Memory => all.sort_by_key(|(_, _, process)| std::cmp::Reverse(process.memory)),
        Sort::User => all.sort_by_key(|(_, _, process)| process.user.clone()),
        Sort::Name => {
            all.sort_by_key(|(_, _, process)| (process.workload.name.clone(), process.name.clone()))
        }
    }
    let several = machines.len() > 1;
    let row = |(name, gpu, process): &(String, &Gpu, &Process)| {
        let cells = of_process(gpu, process);
        let cell = |at: usize, most: usize| plain(cells.get(at).map_or("", String::as_str), most);
        let name = if several { format!("{:<16} ", plain(name, 16)) } else { String::new() };
        let before = format!(
            "{name}{:>3} {:>7} {:<10} {:>9} {:<18} ",
            cell(0, 3),
            cell(1, 7),
            cell(2, 10),
            cell(3, 9),
            cell(4, 18)
        );
        // The program is named in any case; of a long image its end says most.
        let (image, program) = (cell(5, 400), cell(6, 40));
        let room = columns.saturating_sub(before.chars().count() + program.chars().count() + 3);
        let what = match (image.chars().count(), &*image) {
            (_, "-") => program,
            (long, _) if long <= room => format!("{image} / {program}"),
            (long, _) if room >= 6 => {
                let end: String = image.chars().skip(long + 1 - room).collect();
                format!("…{end} / {program}")
            }
            _ => program,
        };
        (before + &what, format!("{name} {}", cells.join(" ")))
    };
    // What is cut off is found as well.
    let found =
        |(_, whole): &(String, String)| state.filter.is_empty() || whole.contains(&state.filter);
    all.iter().map(row).filter(found).map(|(row, _)| plain(&row, columns)).collect()
}

fn bar(share: f64) -> char {
    let eighth = (share.clamp(0.0, 1.0) * 7.99) as usize;
    BARS.get(eighth).copied().unwrap_or('█')
}

/// So many columns of a text that has colours.
fn cut(text: &str, columns: usize) -> String {
    let (mut out, mut count, mut colour) = (String::new(), 0, false);
    for c in text.chars() {
        match c {
            '\x1b' => colour = true,
            'm' if colour => {
                colour = false;
                out.push(c);
                continue;
            }
            _ => {}
        }
        if !colour {
            count += 1;
            if count > columns {
                continue;
            }
        }
        out.push(c);
    }
    out
}
