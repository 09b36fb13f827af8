//! `sconce load`.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::process::{Child, Command, ExitCode, Stdio};

use sconce_build::Progress;
use sconce_oci::name::check_image_name;
use sconce_start::Target;
use sconce_store::Error as StoreError;

use crate::cli::Global;
use crate::commands::registries::architecture;
use crate::commands::{lacking, paths, push};
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Load an image into Docker, podman or containerd on this machine
///
/// The image goes into `docker load`, `podman load` or `ctr images import` as a stream: no archive is
/// written on the way. What isn't there is built first. Says what the engine says. (An archive is taken
/// into the store by `sconce copy docker-archive:FILE store:NAME`.)
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce load torch:2.15.0 --into docker
  sconce load . --into podman
  sconce load torch:2.15.0 --into containerd --namespace k8s.io    for Kubernetes on this node
  sconce load oci:both --platform linux/arm64 --into docker")]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, an image of the store, an OCI layout or
    /// an image archive
    #[arg(value_name = "IMAGE")]
    image: String,
    /// docker, podman or containerd
    #[arg(long, value_name = "ENGINE")]
    into: Engine,
    /// The namespace of containerd's
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// What the engine calls it; the image's own name if not given
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Option<String>,
    /// The platform to take, of an image for several, and to build for: linux/amd64, linux/arm64; this machine's if not
    /// given
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
}

/// Where images are loaded into.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Docker,
    Podman,
    Containerd,
}

impl Engine {
    /// The command that reads an archive from its standard input.
    fn command(self, namespace: &str) -> Command {
        let (program, words): (&str, &[&str]) = match self {
            Self::Docker => ("docker", &["load"]),
            Self::Podman => ("podman", &["load"]),
            Self::Containerd => ("ctr", &["--namespace", namespace, "images", "import", "-"]),
        };
        let mut command = Command::new(program);
        command.args(words);
        command
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Docker => "docker load",
            Self::Podman => "podman load",
            Self::Containerd => "ctr images import",
        })
    }
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if let Some(tag) = &args.tag {
        check_image_name(tag)
            .map_err(|why| Failure::new(Kind::Usage, format!("--tag: `{tag}` {why}")))?;
    }
    let context = Context::open(global)?;
    let target = Target::find(&paths::target(&args.image)?)?;
    let platform = args.platform.as_deref();
    let image = push::source(&context, "load", &args.image, args.trust, platform)?;
    if platform.is_some() && target.project().is_none() {
        let wanted = architecture(platform)?;
        push::check_platform(&context.store, &image, &args.image, &wanted)?;
    }
    let name = args.tag.clone().or_else(|| target.name_of(&image));
    let names = Vec::from_iter(name.map(tagged));
    let named = (args.image.as_str(), &target);
    lacking::check(&context, named, &image)?;
    // Before minutes of writing: whether there is an engine at all.
    let mut child = start(args)?;
    let stage = context.display.begin("loading", Some(image.size));
    // Ctrl-C ends the engine's command as well, and what it was told is nothing without the end.
    let written = |bytes| {
        stage.advance(bytes);
        ControlFlow::Continue(())
    };
    let sent = match child.stdin.take() {
        Some(mut pipe) => context.store.send_docker_archive(&image, &names, &mut pipe, &written),
        None => Ok(()),
    };
    let ended = child.wait();
    let ended = ended.map_err(|error| failed(args.into, &error.to_string()))?;
    // Without all of it the engine says no more than that its archive ends too early. What it does not take is its own fault.
    let sent = match sent {
        Err(error) if !matches!(error, StoreError::Io { action: "write", .. }) => {
            return Err(lacking::unwritten(&context, named, &image, error.into()));
        }
        sent => sent,
    };
    if !ended.success() {
        return Err(failed(args.into, &format!("it ended with {ended}")));
    }
    sent?;
    stage.end(names.first().map_or("without a name", String::as_str));
    println!("{}", image.manifest);
    Ok(ExitCode::SUCCESS)
}

/// Starts the engine's own command, which says on standard error what it has to say.
fn start(args: &Args) -> Result<Child, Failure> {
    let mut command = args.into.command(&args.namespace);
    command.stdin(Stdio::piped()).stdout(io::stderr());
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Kind::Machine, format!("there is no `{program}` on this machine")).hint(
                format!(
                    "install it, or write an archive: `sconce copy {} docker-archive:image.tar`",
                    args.image
                ),
            )
        }
        _ => failed(args.into, &error.to_string()),
    })
}

fn failed(engine: Engine, why: &str) -> Failure {
    Failure::new(Kind::Machine, format!("`{engine}` did not take the image: {why}"))
}

/// Engines want a tag behind the name.
fn tagged(name: String) -> String {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => name,
        _ => format!("{name}:latest"),
    }
}
