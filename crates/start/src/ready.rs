//! From a request to a container that only waits for its start.

use std::os::fd::OwnedFd;

use sconce_blob::Digest;
use sconce_build::{Builder, Imports, Trees};
use sconce_doctor::Subject;
use sconce_facts::Machine;
use sconce_lock::Lock;
use sconce_oci::Config;
use sconce_registry::{Access, Reference};
use sconce_run::Container;
use sconce_store::{Image, Lease};
use sconce_transfer::{SigningPolicy, Transfer};

use crate::admit::{admit_file, admit_stored};
use crate::archive::read_archive;
use crate::env::Environment;
use crate::error::Error;
use crate::gpus::{self, Gpus};
use crate::request::{Pull, Request};
use crate::target::{self, Target};
use crate::{host, subject, variables, volumes};

/// A container that only waits for its start.
pub struct Ready {
    /// What is to be started.
    pub container: Container,
    /// Keeps the image and holds the scratch folder.
    pub lease: Lease,
    /// Keeps the GPUs.
    pub gpus: Gpus,
    /// What is to be imported once beside it; `None` where that is not asked for, or there is nothing.
    pub imports: Option<Imports>,
    /// The image's manifest.
    pub manifest: Digest,
    /// The image is not whole yet: [`Builder::ready`] is to finish it beside the container.
    pub early: bool,
}

impl Ready {
    /// The container, and the locks on its image and GPUs for its shim to hold: what this process
    /// holds goes when it ends.
    ///
    /// # Errors
    /// The store's lock can't be passed on.
    pub fn into_held(mut self) -> Result<(Container, Vec<OwnedFd>), Error> {
        self.container.leased = Some(self.lease.scratch().to_owned());
        let mut held = self.lease.into_fds()?;
        held.extend(self.gpus.into_locks());
        Ok((self.container, held))
    }
}

/// Makes all that the container of `target`, written as `text`, needs; what isn't there is locked,
/// downloaded and built. Remarks go to the builder's watcher. What others built must be signed as the
/// policy asks.
///
/// What can be wrong in the words is found first, then what `sconce doctor` knows to fail: both before
/// anything is downloaded.
///
/// # Errors
/// A request, a target or a machine that can't work; a build that fails.
pub fn ready(
    mut request: Request,
    target: &Target,
    text: &str,
    builder: &Builder<'_>,
    (access, policy): (&Access, &SigningPolicy),
    env: &Environment<'_>,
) -> Result<Ready, Error> {
    let note = |text: &str| builder.progress.note(text);
    if let Some(project) = target.project() {
        request.add_project(project, env)?;
    }
    request.check()?;
    let store = if request.binds.is_empty() { Vec::new() } else { builder.store.folders() };
    volumes::check_outside(&request.binds, &store)?;
    if rustix::process::geteuid().is_root() {
        volumes::settings_in_words(&request.binds).iter().for_each(|text| note(text));
    }
    request.remarks().iter().for_each(|remark| note(remark));
    let mut gpus = gpus::choose(request.gpus.as_deref(), request.driver_root.as_deref(), &note)?;
    gpus.check(None, request.force, &note)?;
    let check = |subject: &Subject| gpus.check(Some(subject), request.force, &note);
    let transfer = Transfer {
        store: builder.store,
        access,
        progress: builder.progress,
        policy,
        threads: builder.threads,
    };
    if let Some(text) = target.hides(text, builder.store)? {
        note(&text);
    }
    let Found { image, imports, early } = find(target, text, builder, &transfer, &request, &check)?;
    let config = Config::parse(&builder.store.config(&image)?).map_err(Error::Config)?;
    let here = architecture();
    if !config.is_for(here) {
        return Err(Error::Platform { theirs: config.platform(), here });
    }
    let lowers = sconce_build::extract(builder.store, &image, builder.threads, builder.progress)?;
    let quota = sconce_run::processor_limit();
    let mut container = request.container(config.process, gpus.count(), quota)?;
    container.lowers = lowers;
    container.image = match target {
        // `.` says nothing in a list.
        Target::Folder(project) => project.name().unwrap_or_else(|| text.to_owned()),
        _ => text.to_owned(),
    };
    container.early = early;
    container.gpus = gpus.names();
    container.hidden.extend(store);
    if container.processors.is_none() && !request.no_affinity && !request.no_defaults {
        let allowed = sconce_run::processors();
        container.processors = variables::processors(gpus.near.as_ref(), allowed.as_deref());
    }
    // From here on only the lease keeps the image; the store is free for others to prune.
    let lease = builder.store.lease(image.manifest)?;
    container.folder = builder.store.containers()?;
    gpus.forward(&container.lowers, &note);
    gpus.apply(&mut container, lease.scratch())?;
    Ok(Ready { container, lease, gpus, imports, manifest: image.manifest, early })
}

/// This machine's processor, as images name it.
fn architecture() -> &'static str {
    Machine::current().map_or(std::env::consts::ARCH, Machine::debian)
}

/// The image to start, and what goes with it.
struct Found {
    image: Image,
    imports: Option<Imports>,
    early: bool,
}

/// Finds the image, or makes it or takes it in if need be. `check` judges it as soon as it is known what
/// it needs.
fn find(
    target: &Target,
    text: &str,
    builder: &Builder<'_>,
    transfer: &Transfer<'_>,
    request: &Request,
    check: &dyn Fn(&Subject) -> Result<(), Error>,
) -> Result<Found, Error> {
    let store = builder.store;
    let judge =
        |image: &Image| subject::of_image(text, image).map_or(Ok(()), |subject| check(&subject));
    let imports = |lock: Option<&Lock>| match lock {
        Some(lock) if !request.no_import_check => builder.imports(lock),
        _ => Ok(None),
    };
    // `alpine` is docker.io/library/alpine:latest once that was pulled.
    let in_full;
    let target = match target {
        Target::Image(name) if target::is_pulled(store, name)? => {
            in_full = Target::Reference(name.clone());
            &in_full
        }
        _ => target,
    };
    if request.pull == Pull::Always && target.project().is_some() {
        let why = "`sconce lock --upgrade` looks for newer versions; run it before";
        return Err(Error::option("--pull", "always", why));
    }
    let architecture = architecture();
    let pulls = matches!(target, Target::Reference(_)) && request.pull == Pull::Always;
    let stored = if pulls { None } else { target.stored(store)? };
    if request.pull == Pull::Always && stored.is_some() {
        let said = format!(
            "`--pull always`: `{text}` is an image of this store alone, and is started as it is here"
        );
        builder.progress.note(&said);
    }
    let here = |image: &Image| -> Result<bool, Error> {
        let config = Config::parse(&store.config(image)?).map_err(Error::Config)?;
        Ok(config.is_for(architecture))
    };
    // A tag that was built before means that image until `sconce lock --upgrade` says otherwise.
    if let Some(image) = stored
        && (!matches!(target, Target::Reference(_)) || here(&image)?)
    {
        let lock = match target {
            Target::Tag(project) => builder.existing_lock(project)?,
            _ => None,
        };
        admit_stored(transfer, target, &image, architecture)?;
        judge(&image)?;
        return Ok(Found { image, imports: imports(lock.as_ref())?, early: false });
    }
    let reading = || builder.progress.begin("reading", None);
    let (stage, taken) = match target {
        Target::Layout { path, tag } => {
            (reading(), store.read_layout(path, tag.as_deref(), architecture, &[])?)
        }
        Target::Archive { path, tag } => {
            (reading(), read_archive(store, path, tag.as_deref(), architecture)?)
        }
        Target::Folder(project) | Target::Tag(project) => {
            let mirror = project.spec().base.mirror.as_deref();
            let builder = Builder { mirror, ..*builder };
            let locked = builder.lock(project, &host(), &request.lock)?;
            if Machine::current() != Some(locked.lock.facts.machine) {
                return Err(Error::Foreign { wanted: locked.lock.facts.machine.to_string() });
            }
            if let Some(torch) = &locked.lock.facts.torch {
                check(&subject::of_torch(text, torch))?;
            }
            for change in &locked.changes {
                builder.progress.note(&change.to_string());
            }
            for note in locked.explanation.iter().flat_map(|explanation| &explanation.notes) {
                builder.progress.note(note);
            }
            let ready = match request.early {
                true => builder.startable(&request.lock, project, locked.lock)?,
                false => builder.ready_under(&request.lock, project, locked.lock, Trees::All)?,
            };
            let image = store.image(&ready.image.hex())?;
            return Ok(Found { image, imports: imports(Some(&ready.lock))?, early: !ready.whole });
        }
        Target::Image(name) | Target::Reference(name) => {
            let reference = Reference::parse(name)?;
            if request.pull == Pull::Never {
                return Err(match target.stored(store)? {
                    Some(image) => {
                        let config = Config::parse(&store.config(&image)?);
                        let theirs = config.map_err(Error::Config)?.platform();
                        Error::Platform { theirs, here: architecture }
                    }
                    None => Error::NeverPulled(text.to_owned()),
                });
            }
            let pulled = transfer.pull(&reference, architecture, &[&reference.to_string()])?;
            let image = store.image(&pulled.image.hex())?;
            judge(&image)?;
            return Ok(Found { image, imports: None, early: false });
        }
        Target::Path(_) | Target::Stored(_) => {
            return Err(Error::NotBuilt(text.to_owned()));
        }
    };
    stage.end(&format!("image {}", taken.short()));
    admit_file(transfer, text, taken)?;
    let image = store.image(&taken.hex())?;
    judge(&image)?;
    Ok(Found { image, imports: None, early: false })
}
