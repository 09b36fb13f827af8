//! `sconce monitor`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use sconce_listen::Hosts;
use sconce_monitor::Names;
use sconce_monitor::counters::Counters;
use sconce_monitor::exporter::Exporter;
use sconce_monitor::guarded::{Guard, serve_guarded};
use sconce_monitor::history::History;
use sconce_monitor::pods::{Places, SOCKET};
use sconce_monitor::recording::Replay;
use sconce_monitor::rules;
use sconce_monitor::sampler::{self, Options};
use sconce_monitor::server::{Limits, serve};
use sconce_monitor::text::Format;
use sconce_monitor::watch::Watch;

use crate::cli::Global;
use crate::commands::monitor_course::Course;
use crate::commands::monitor_listen::{address, cannot_listen, listen, open_to};
use crate::commands::monitor_output::{output, tell_of_kubelet, write_textfile};
use crate::commands::monitor_record::Recording;
use crate::commands::serve::host_name;
use crate::commands::{
    monitor_replay, monitor_rules, monitor_unit, monitor_web, own, paths, watching,
};
use crate::error::{Failure, Kind};

/// Where it listens if nothing else is said.
pub const LISTEN: &str = "127.0.0.1:9400";
/// The most bytes of a file of counters.
const LARGEST_COUNTERS: u64 = 1 << 20;

/// Watch the GPUs: a page with history, a Prometheus exporter, recordings, and what is wrong
///
/// Without DCGM and without root. Metrics have dcgm-exporter's names, so that its dashboards work, and names of their own
/// (sconce_*) in base units. What is wrong (a hang in NCCL, an Xid, throttling, training beside the tensor cores, …) is
/// printed when it begins and when it ends. Ends with Ctrl-C.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  sconce monitor                              http://127.0.0.1:9400: a page, and /metrics
  sconce monitor --listen :9400               for a Prometheus elsewhere, as dcgm-exporter listens
  sconce monitor --once                       the metrics now
  sconce monitor --textfile /var/lib/node_exporter/gpu.prom
  sconce monitor --record day.gz              and sconce monitor --replay day.gz, here or elsewhere
  sconce monitor rules                        what it looks for
  sconce monitor rules --replay day.gz        what was wrong in a recording
  sconce monitor rules --format prometheus > sconce.rules.yml
  sconce monitor --print-dashboard > gpus.json
  sconce monitor --print-unit > /etc/systemd/system/sconce-monitor.service"
)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Where to listen: ADDRESS:PORT, or :PORT for all addresses of this machine. Without --web-config there is no
    /// login: whoever reaches it reads the names of containers and processes [127.0.0.1:9400, unless it writes a file]
    #[arg(long, short = 'a', value_name = "ADDRESS:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,
    /// Ask for logins and encrypt, as this file says, which Prometheus's exporters take as `--web.config.file`:
    /// tls_server_config (cert_file, key_file, client_auth_type, client_ca_file, min_version) and basic_auth_users
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    web_config: Option<PathBuf>,
    /// Answer requests for this name of a host too: gpus.example; .example for all names below it. On 127.0.0.1, where a
    /// web page that is open on this machine could give a name of its own that address (DNS rebinding), requests for
    /// an address, for localhost and for this machine's own name are answered, and others refused. May be given more
    /// than once, and makes it look at names on other addresses too
    #[arg(long, value_name = "NAME", value_parser = host_name, conflicts_with_all = ["web_config", "once"])]
    pub host_name: Vec<String>,
    /// How often the GPUs are asked: 1s, 250ms, 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Which of dcgm-exporter's names
    #[arg(long, value_name = "NAMES", default_value = "dcgm")]
    pub names: NamesArg,
    /// Of dcgm-exporter's metrics those of this file, with its types and HELP, as `dcgm-exporter -f` takes it: lines
    /// `FIELD, TYPE, HELP`
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "names")]
    collectors: Option<PathBuf>,
    /// Write the metrics to a file of node_exporter's textfile collector, whole at each time
    #[arg(long, value_name = "PATH")]
    pub textfile: Option<PathBuf>,
    /// Take one sample, print its metrics (or write the textfile), and end
    #[arg(long, conflicts_with_all = ["listen", "record"])]
    once: bool,
    /// Record all samples to this file: JSON lines in gzip, a new file, 1 GiB at most
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Take the samples from a recording, at its own pace, instead of this machine's GPUs
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Keep the history of the page in this folder: hours in full, months thinned, 64 MiB at most [$STATE_DIRECTORY, or
    /// ~/.local/state/sconce/monitor; none beside --replay]
    #[arg(long, value_name = "FOLDER")]
    history: Option<PathBuf>,
    /// Keep no history
    #[arg(long, conflicts_with = "history")]
    no_history: bool,
    /// The kubelet's socket of pod resources, which says what pod has which GPU: labels `pod`, `namespace` and `container`
    /// [/var/lib/kubelet/pod-resources/kubelet.sock, where it is there]
    #[arg(long, value_name = "PATH", conflicts_with = "replay")]
    kubelet_socket: Option<PathBuf>,
    /// End after so long
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub duration: Option<Duration>,
    /// Tell of what holds for this long already, and take it for over as soon: for trials
    #[arg(long, value_name = "TIME", value_parser = time)]
    hold: Option<Duration>,
    /// Print what the calls of NVML cost to standard error at the end
    #[arg(long, hide = true)]
    pub times: bool,
    /// Tell of what is wrong with the GPUs on these buses, for `sconce run`
    #[arg(long, hide = true, value_name = "BUS,...", value_delimiter = ',')]
    tell: Vec<String>,
    /// Print a systemd unit that runs this without privileges, with --listen, --interval, --names and --host-name as
    /// given, and end
    #[arg(long, conflicts_with_all = [
        "web_config", "collectors", "textfile", "once", "record", "replay", "history", "no_history", "kubelet_socket",
        "duration", "hold", "print_dashboard",
    ])]
    print_unit: bool,
    /// Print a dashboard for Grafana to import, over our names and dcgm-exporter's, and end
    #[arg(long)]
    print_dashboard: bool,
}

#[derive(clap::Subcommand)]
enum What {
    /// List what it looks for, or judge a recording
    Rules(monitor_rules::Args),
}

#[derive(Clone, Copy, ValueEnum)]
pub enum NamesArg {
    /// Those up to 4.8, which public dashboards ask for
    Dcgm,
    /// Those of 4.9, as far as they are known
    #[value(name = "dcgm-4.9")]
    Dcgm49,
    /// Both
    Both,
    /// None, only sconce_*
    None,
}

impl From<NamesArg> for Names {
    fn from(names: NamesArg) -> Self {
        match names {
            NamesArg::Dcgm => Self::Dcgm,
            NamesArg::Dcgm49 => Self::Dcgm49,
            NamesArg::Both => Self::Both,
            NamesArg::None => Self::None,
        }
    }
}

pub fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6)];
    let parsed = units.iter().find_map(|(unit, by)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        (number.is_finite() && number >= 0.0 && number * by < 1e12).then_some(number * by)
    });
    let wrong = || "a time is a number with its unit: 250ms, 1s, 5m, 2h".to_owned();
    Ok(Duration::from_micros((parsed.ok_or_else(wrong)? * 1e3) as u64))
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = time(text)?;
    let fits = (Duration::from_millis(50)..=Duration::from_secs(3600)).contains(&interval);
    if fits { Ok(interval) } else { Err("from 50ms to 1h".to_owned()) }
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if let Some(What::Rules(rules)) = &args.what {
        return monitor_rules::main(rules);
    }
    if !args.tell.is_empty() {
        return watching::tell(&args.tell, args.hold);
    }
    if args.replay.is_none()
        && !args.once
        && !global.quiet
        && let Some(why) = rules::unseen(args.interval)
    {
        eprintln!("note: what takes a closer look is not told of: {why}");
    }
    if args.print_unit {
        let program = monitor_unit::program();
        print!(
            "{}",
            sconce_monitor::unit(&program.to_string_lossy(), &monitor_unit::options(args))
        );
        return Ok(ExitCode::SUCCESS);
    }
    if args.print_dashboard {
        print!("{}", sconce_monitor::board());
        return Ok(ExitCode::SUCCESS);
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let replayed = args.replay.as_deref().map(monitor_replay::open).transpose()?;
    // What a recording shows is of the machine that it is of.
    let shown = replayed.as_ref().map(Replay::host).filter(|host| !host.is_empty());
    let watch = Watch::new(args.hold);
    let mut exporter =
        Exporter::new(args.names.into(), shown.unwrap_or(&host), args.interval, watch);
    if let Some(path) = &args.collectors {
        exporter = exporter.with_counters(counters(path)?);
    }
    if args.once {
        return once(args, replayed, &exporter);
    }
    let files = args.textfile.is_some() || args.record.is_some();
    let wanted = args.listen.or_else(|| if files { None } else { LISTEN.parse().ok() });
    if let Some((folder, history)) = keep(args, wanted.is_some())? {
        exporter = exporter.with_history(folder, history);
    }
    // Whoever listens for others says to everyone what it shows; with TLS or a login no page gets an answer.
    let here = wanted.is_some_and(|address| address.ip().is_loopback());
    if args.web_config.is_none() && (here || !args.host_name.is_empty()) {
        exporter = exporter.with_hosts(Hosts::new(&host, &args.host_name));
    }
    let exporter = Arc::new(exporter);
    let guard = match (&args.web_config, wanted) {
        (None, _) => Guard::default(),
        (Some(path), Some(_)) => monitor_web::guard(path)?,
        (Some(_), None) => {
            let what = "--web-config is for who listens, and nothing does";
            return Err(Failure::new(Kind::Usage, what).hint("give --listen ADDRESS:PORT as well"));
        }
    };
    let listener = wanted.map(listen).transpose()?;
    let recording = match &args.record {
        Some(path) => Some(Recording::begin(&output("--record", path)?, &host)?),
        None => None,
    };
    if let Some(listener) = listener {
        let address = listener.local_addr().map_err(|error| cannot_listen(wanted, &error))?;
        if let Some(note) = open_to(&guard).filter(|_| !address.ip().is_loopback() && !global.quiet)
        {
            eprintln!("note: {note}");
        }
        let scheme = if guard.tls.is_some() { "https" } else { "http" };
        println!("{scheme}://{address}/metrics");
        let exporter = Arc::clone(&exporter);
        let answers = move || match (&guard.tls, &guard.logins) {
            (None, None) => serve(&listener, &Limits::default(), &*exporter),
            _ => serve_guarded(&listener, &Limits::default(), &*exporter, &guard),
        };
        let server = thread::Builder::new().name("http".to_owned()).spawn(answers);
        drop(server.map_err(|error| Failure::of(Kind::Machine, &error, None))?);
    }
    let mut course = Course::begin(args, global, &exporter, recording, wanted.is_none())?;
    let damaged = match replayed {
        Some(mut samples) => {
            monitor_replay::play(&mut samples, course.until(), |sample, gap| {
                gap.into_iter().for_each(|pause| exporter.skip(pause));
                course.take(sample)
            });
            monitor_replay::whole(&samples, "nothing is shown").err()
        }
        None => {
            let between = Some(course.between());
            sampler::run(Options { between, ..options(args) }, |sample| course.take(sample));
            None
        }
    };
    course.end(damaged)
}

/// What a file of counters asks for. What is not known here is said, and left out.
fn counters(path: &Path) -> Result<Counters, Failure> {
    let text = paths::read("--collectors", path, LARGEST_COUNTERS)?;
    let counters = Counters::parse(&text).map_err(|error| {
        let failure = Failure::new(Kind::Usage, format!("{}, {error}", path.display()));
        failure.hint("a line is `DCGM_FI_DEV_GPU_TEMP, gauge, GPU temperature (in C).`")
    })?;
    if !counters.unknown.is_empty() {
        let names = counters.unknown.join(", ");
        eprintln!(
            "note: {} asks for what is not known here, and left out: {names}",
            path.display()
        );
    }
    Ok(counters)
}

/// The history that is to be kept, if any: what was asked for must be there, what is usual may fail.
fn keep(args: &Args, serves: bool) -> Result<Option<(PathBuf, History)>, Failure> {
    let usual = || {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let state = || {
            let home = set("HOME").map(|home| PathBuf::from(home).join(".local/state"));
            Some(set("XDG_STATE_HOME").map(PathBuf::from).or(home)?.join("sconce/monitor"))
        };
        set("STATE_DIRECTORY").map(PathBuf::from).or_else(state).filter(|path| path.is_absolute())
    };
    let wanted =
        args.history.as_deref().map(|path| paths::of_option("--history", path)).transpose()?;
    let by_itself = || usual().filter(|_| serves && args.replay.is_none());
    let folder = wanted.clone().or_else(by_itself).filter(|_| !args.no_history);
    let Some(folder) = folder else { return Ok(None) };
    match History::open(&folder) {
        Ok(history) => Ok(Some((folder, history))),
        Err(error) if wanted.is_some() => Err(error.into()),
        Err(error) => {
            eprintln!("note: no history is kept: {error}");
            Ok(None)
        }
    }
}

fn options(args: &Args) -> Options {
    let places = Places {
        socket: args.kubelet_socket.clone().unwrap_or_else(|| SOCKET.into()),
        expected: args.kubelet_socket.is_some(),
        // Who looks once has no later sample that names them; a kubelet has two seconds.
        first: if args.once { Duration::from_millis(2500) } else { Duration::ZERO },
        ..Places::default()
    };
    let options = Options::new(Box::new(own::library), own::finder());
    Options { interval: args.interval, pods: Some(places), ..options }
}

fn once(
    args: &Args,
    replayed: Option<Replay<File>>,
    exporter: &Exporter,
) -> Result<ExitCode, Failure> {
    let (mut silence, mut damaged) = (None, None);
    match replayed {
        // The last moment of a recording.
        Some(mut samples) => {
            samples.by_ref().for_each(|sample| drop(exporter.push(sample).0));
            damaged = monitor_replay::whole(&samples, "nothing is shown").err();
        }
        None => {
            // What goes on between two looks takes two looks.
            let mut left = 2;
            let mut told = Vec::new();
            let interval = args.interval.min(Duration::from_secs(1));
            sampler::run(Options { interval, ..options(args) }, |sample| {
                silence.clone_from(&sample.silence);
                tell_of_kubelet(&sample, &mut told);
                drop(exporter.push(sample).0);
                left -= 1;
                left > 0 && silence.is_none()
            });
        }
    }
    if let Some(why) = silence {
        let failure = Failure::new(Kind::Machine, format!("NVML does not answer: {why}"));
        return Err(failure.hint("`sconce doctor` says what is wrong with the driver"));
    }
    match &args.textfile {
        Some(path) => write_textfile(path, exporter)?,
        None => print!("{}", exporter.metrics(Format::Prometheus)),
    }
    damaged.map_or(Ok(ExitCode::SUCCESS), Err)
}
