//! `sconce inspect`.

mod locked;
mod remote;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use sconce_build::Progress;
use sconce_facts::DriverVersion;
use sconce_inspect::archive::{self, Image};
use sconce_inspect::source::Subject;
use sconce_inspect::{Basis, Host, Moved, Options, Report, Says, Tree, inspect};
use sconce_start::Target;

use crate::cli::Global;
use crate::commands::{paths, ps};
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::output::hides;

/// Prove from bytes alone what an environment can run on
///
/// Takes a virtual environment, a wheel, a folder, an OCI layout, a docker-archive, a lock or the
/// folder it lies in, an image of the store, or one in a registry (HOST/NAME:TAG; of its layers only an outline is stored); needs no GPU, no Python and
/// no CUDA toolkit. The name of a container gives what `sconce ps` knows of it, as JSON. With --for the answer is one sentence and the exit code: 0 it runs, 1 it does
/// not, 11 it runs in part, 12 what was looked at does not decide it.
#[derive(clap::Args)]
pub struct Args {
    /// What to look at
    #[arg(value_name = "WHAT")]
    subject: String,
    /// The GPU it must run on: h100, a capability such as 9.0
    #[arg(long = "for", value_name = "GPU")]
    gpu: Option<String>,
    /// The driver it must run on, such as 535.104.05
    #[arg(long, value_name = "VERSION", requires = "gpu")]
    driver: Option<DriverVersion>,
    /// LD_LIBRARY_PATH to assume; if not given, the image's own, or this machine's for what runs on
    /// it. Folders that a folder or wheel does not have are this machine's
    #[arg(long, value_name = "PATHS")]
    library_path: Option<String>,
    /// Of an image for several processors, the one to look at
    #[arg(long, value_name = "amd64|arm64")]
    platform: Option<String>,
    /// Look for copies of files too (reads whole files)
    #[arg(long)]
    copies: bool,
    /// The whole as JSON, as docs/format/inspect.md describes it
    #[arg(long)]
    json: bool,
}

/// JSON may hold control characters of the second kind (U+0080 to U+009F), which some terminals obey, and what turns the
/// direction of writing; they are an image's or a container's words.
pub fn for_a_terminal(json: &str) -> String {
    let escape = |c: char| match hides(c) && c != '\n' {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    json.chars().map(escape).collect()
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let native = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    if let Some(container) = container(global, &args.subject)? {
        let text = serde_json::to_string_pretty(&container).map_err(Failure::unwritable)?;
        println!("{}", for_a_terminal(&text));
        return Ok(ExitCode::SUCCESS);
    }
    let platform = args.platform.as_deref().unwrap_or(native);
    let report = match look(global, args, platform)? {
        Found::Facts(report) => *report,
        Found::Part(facts, wheels) => {
            let says = |report: &Report| -> Result<_, Failure> {
                let answer =
                    args.gpu.as_deref().map(|gpu| report.answer(gpu, args.driver.as_ref()));
                Ok(answer.transpose()?.map(|answer| answer.says))
            };
            // What is here can say no; a yes needs all of it.
            match says(&facts)? {
                None | Some(Says::No) => *facts,
                Some(_) => {
                    let here = wheels.files.len();
                    eprintln!(
                        "note: {here} of its wheels are here: reading them for what they lack"
                    );
                    let part = judge(global, args, *locked::subject(&wheels)?, Basis::Bytes)?;
                    if says(&part)? == Some(Says::No) { part } else { *facts }
                }
            }
        }
        Found::Bytes(subject, basis) => judge(global, args, *subject, basis)?,
        Found::Remote(subject, moved) => {
            let report = judge(global, args, *subject, Basis::Bytes)?;
            Report { moved: Some(moved), ..report }
        }
    };
    let answer =
        args.gpu.as_deref().map(|gpu| report.answer(gpu, args.driver.as_ref())).transpose()?;
    let folder = (!Target::is_name(&args.subject)).then(|| Path::new(&args.subject));
    let stale = folder.and_then(locked::stale);
    if let Some(why) = &stale {
        eprintln!(
            "note: {}: {why}, and this is of the lock as it is; `sconce lock {}` decides anew",
            args.subject,
            crate::trust::quoted(Path::new(&args.subject)),
        );
    }
    // What a changed project gets nobody knows.
    let answer = answer.map(|answer| match &stale {
        Some(why) if answer.ready() => answer.of_a_stale_lock(why),
        _ => answer,
    });
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::unwritable)?);
    }
    match &answer {
        Some(answer) if args.json => eprintln!("{}", answer.sentence),
        Some(answer) => println!("{}", answer.sentence),
        None if !args.json => print!("{}", report.page(std::io::stdout().is_terminal())),
        None => {}
    }
    Ok(match answer.map(|answer| answer.says) {
        None | Some(Says::Yes) => ExitCode::SUCCESS,
        Some(Says::No) => ExitCode::from(Kind::No as u8),
        Some(Says::InPart) => ExitCode::from(Kind::InPart as u8),
        Some(Says::CantTell) => ExitCode::from(Kind::CantTell as u8),
    })
}

/// What `sconce ps` knows of the container of this name or id, and how it was asked for. A path comes
/// before a container of its name.
fn container(global: &Global, name: &str) -> Result<Option<serde_json::Value>, Failure> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !plain || Path::new(name).exists() {
        return Ok(None);
    }
    match sconce_run::find(&ps::folder(global)?, name) {
        Ok(one) => {
            let mut about = ps::describe(&one);
            about["request"] = serde_json::to_value(&one.container).map_err(Failure::unwritable)?;
            Ok(Some(about))
        }
        Err(sconce_run::Error::NoContainer(_)) => Ok(None),
        Err(error) => Err(Failure::from(error)),
    }
}

/// What there is to look at.
enum Found {
    /// Bytes at hand.
    Bytes(Box<Subject>, Basis),
    /// An image in a registry, and what it took to read it.
    Remote(Box<Subject>, Moved),
    /// Facts alone.
    Facts(Box<Report>),
    /// Facts, and some wheels of the lock.
    Part(Box<Report>, locked::Wheels),
}

fn look(global: &Global, args: &Args, platform: &str) -> Result<Found, Failure> {
    let bytes = |subject| Found::Bytes(Box::new(subject), Basis::Bytes);
    let text = paths::target(&args.subject)?;
    let text = &*text;
    if !Target::is_name(text)
        && let Some(lock) = locked::lock_at(Path::new(text))
    {
        return locked::find(global, text, &lock);
    }
    let target = Target::find(text)?;
    say_hidden(global, &target, text)?;
    match &target {
        Target::Path(path)
        | Target::Layout { path, tag: None }
        | Target::Archive { path, tag: None } => return Ok(bytes(Subject::open(path, platform)?)),
        Target::Layout { tag: Some(tag), .. } | Target::Archive { tag: Some(tag), .. } => {
            let what = format!("the image tagged `{tag}` can't be looked at alone");
            return Err(Failure::new(Kind::Usage, what)
                .hint("leave the tag out where there is one image, or `sconce run` it first"));
        }
        // Without a lock it is a folder like any other.
        Target::Folder(_) => {
            eprintln!(
                "note: {text} is not locked, and this is of the files that lie in it; `sconce lock {}` decides what it gets",
                crate::trust::quoted(Path::new(text)),
            );
            return Ok(bytes(Subject::open(Path::new(text), platform)?));
        }
        Target::Reference(_) if args.copies => {
            let what =
                "copies are looked for in whole files, and of an image in a registry none are kept";
            return Err(Failure::new(Kind::Usage, what).hint("leave out --copies"));
        }
        Target::Reference(_) => {
            let (subject, moved) = remote::subject(global, text, platform)?;
            return Ok(Found::Remote(Box::new(subject), moved));
        }
        Target::Tag(_) | Target::Image(_) | Target::Stored(_) => {}
    }
    let context = Context::open(global)?;
    let image = target.stored(&context.store).map_err(|error| {
        let hint =
            "name a path, an image that `sconce images` lists, or HOST/NAME:TAG of a registry";
        // As Docker's. With a question 1 is an answer to that.
        let no = matches!(&error, sconce_start::Error::Store(sconce_store::Error::NoImage { .. }))
            && args.gpu.is_none();
        let failure = Failure::from(error).or_hint(hint);
        if no { failure.of_kind(Kind::No) } else { failure }
    })?;
    let image = image.ok_or_else(|| sconce_start::Error::NotBuilt(text.to_owned()))?;
    Ok(bytes(of_store(&context, &image)?))
}

/// Says where the file or folder that is read has the name of an image of the store. Where there is no store, none is made.
fn say_hidden(global: &Global, target: &Target, text: &str) -> Result<(), Failure> {
    let is_file = matches!(
        target,
        Target::Path(_) | Target::Folder(_) | Target::Layout { .. } | Target::Archive { .. }
    );
    let root = sconce_store::default_root(|name| std::env::var_os(name))?;
    if !is_file || text.contains('/') || !root.is_dir() {
        return Ok(());
    }
    let context = Context::open(global)?;
    if let Some(text) = target.hides_as_file(text, &context.store)? {
        context.display.note(&text);
    }
    Ok(())
}

fn judge(global: &Global, args: &Args, subject: Subject, basis: Basis) -> Result<Report, Failure> {
    let library_path = match &args.library_path {
        // An image's folders are its own.
        Some(given) if subject.on_machine => Some(library_path(given)?),
        given => given.clone(),
    };
    let host = subject.on_machine.then(|| Host::this(subject.is_installed()));
    let mut options = Options {
        threads: global.threads.map_or(0, std::num::NonZeroUsize::get),
        partial: subject.partial,
        single: subject.is_single(),
        whole: !subject.partial && !subject.on_machine,
        library_path: library_path.or(subject.library_path),
        host,
        skip_copies: !args.copies,
        basis,
        ..Options::default()
    };
    if let Some(name) = &args.gpu {
        // An unknown name is refused later, with the nearest right one.
        let known = || sconce_facts::gpu(name).ok().map(|gpu| gpu.capability);
        options.gpus.extend(name.parse().ok().or_else(known));
    }
    Ok(inspect(&args.subject, &subject.tree, &options, &|_, _| {}))
}

/// The folders of this machine that a person names, none of them by a link in a container's volume.
fn library_path(given: &str) -> Result<String, Failure> {
    let folders = given.split(':').map(|folder| match folder {
        "" => Ok(String::new()),
        folder => {
            let real = paths::of_option("--library-path", Path::new(folder))?;
            Ok(real.to_str().unwrap_or(folder).to_owned())
        }
    });
    Ok(folders.collect::<Result<Vec<_>, Failure>>()?.join(":"))
}

/// An image of the store, as its extracted trees show it.
fn of_store(context: &Context, image: &sconce_store::Image) -> Result<Subject, Failure> {
    let trees = sconce_build::extract(&context.store, image, context.threads, &context.display)?;
    let tree = Tree::layers(&trees)?;
    let config = context.store.config(image)?;
    let env = archive::environment(&image.config.to_string(), &config)?;
    Ok(Subject::image("image", Image { tree, env }))
}
