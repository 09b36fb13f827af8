//! A screen full: machines, their GPUs, what is wrong, processes. Names are cut to the width, and steer nothing.

use sconce_monitor::metric::Metric;
use sconce_monitor::sample::{Gpu, Process};
use sconce_monitor::sampler::say;

use super::machines::{Machine, Now};
use super::tables::{of_process, plain, shown};

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
    /// How far the processes are scrolled.
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

/// The lines of a screen of so many rows and columns.
pub fn lines(machines: &[Machine], state: &State, (rows, columns): (usize, usize)) -> Vec<String> {
    let mut lines = Vec::new();
    for machine in machines {
        head(machine, columns, &mut lines);
        if let Some(Ok(now)) = &machine.answer {
            for (at, gpu) in now.sample.gpus.iter().enumerate() {
                let past: Vec<f64> =
                    machine.busy.get(at).map_or(Vec::new(), |past| past.iter().copied().collect());
                lines.push(of_gpu(gpu, &past, columns));
            }
            findings(now, columns, &mut lines);
        }
    }
    let all = processes(machines, state);
    let room = rows.saturating_sub(lines.len() + 2);
    if room > 1 {
        let first = state.scroll.min(all.len().saturating_sub(1));
        let several = machines.len() > 1;
        let title = format!(
            "{}GPU     PID USER          MEMORY CONTAINER          IMAGE / PROGRAM",
            if several { "MACHINE          " } else { "" }
        );
        lines.push(format!("{REVERSE}{:<columns$}", plain(&title, columns)));
        let shown = all.iter().skip(first).take(room - 1);
        lines.extend(shown.map(|row| plain(row, columns)));
    }
    lines.truncate(rows.saturating_sub(1));
    let bottom = match &state.line {
        Some(line) => line.clone(),
        None => format!(
            "q end  s sort: {}  / filter: {}  k signal  {} processes",
            state.sort.word(),
            if state.filter.is_empty() { "none" } else { &state.filter },
            all.len()
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
        let title =
            "GPU MODEL             BUSY HISTORY    TENSOR   MEMORY, GB    POWER, W  HEAT   CLOCK";
        lines.push(format!("{REVERSE}{:<columns$}", plain(title, columns)));
    }
}

fn of_gpu(gpu: &Gpu, past: &[f64], columns: usize) -> String {
    let value = |metric| gpu.values.get(metric);
    if let Some(code) = gpu.lost {
        return format!(
            "{RED}{}",
            plain(&format!("{:>3} {} {}", gpu.index, gpu.model, say(code)), columns)
        );
    }
    let busy = value(Metric::Graphics).or_else(|| value(Metric::Utilization));
    // The product's name is the same everywhere; what tells cards apart comes first.
    let model = gpu.model.trim_start_matches("NVIDIA ");
    let room = 10 + columns.saturating_sub(84).min(60);
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
        of(value(Metric::MemoryUsed), value(Metric::MemoryTotal), 1e-9),
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
fn processes(machines: &[Machine], state: &State) -> Vec<String> {
    let mut all: Vec<(String, &Gpu, &Process)> = Vec::new();
    for machine in machines {
        let Some(Ok(now)) = &machine.answer else { continue };
        let name = machine.name.clone().unwrap_or_default();
        for gpu in &now.sample.gpus {
            all.extend(gpu.processes.iter().flatten().map(|process| (name.clone(), gpu, process)));
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
        let what = match cell(5, 40) {
            image if image == "-" => cell(6, 40),
            image => format!("{image} / {}", cell(6, 40)),
        };
        format!(
            "{name}{:>3} {:>7} {:<10} {:>9} {:<18} {what}",
            cell(0, 3),
            cell(1, 7),
            cell(2, 10),
            cell(3, 9),
            cell(4, 18)
        )
    };
    let rows = all.iter().map(row);
    rows.filter(|row| state.filter.is_empty() || row.contains(&state.filter)).collect()
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
