//! What is to run, as `doctor` and a start judge it: from an image's labels, a lock, or the facts.

use sconce_build::Builder;
use sconce_doctor::{Others, Snapshot, Subject};
use sconce_lock::{Host, HostGpu, Lock, Machine, Requirements, TorchFacts, TorchRequest};
use sconce_oci::Config;
use sconce_store::{Image, Store};

use crate::error::Error;
use crate::target::{Kind, Target};

/// What an image's labels say it needs; nothing if sconce did not build it, or it holds no torch.
pub(crate) fn of_image(name: &str, image: &Image) -> Option<Subject> {
    let label = |key: &str| image.labels.get(&format!("dev.sconce.{key}"));
    label("torch")?;
    let architectures = label("architectures").map_or("", String::as_str);
    Some(Subject {
        name: name.to_owned(),
        cuda_major: label("cuda").and_then(|cuda| cuda.split('.').next()?.parse().ok()),
        driver_floor: label("driver").cloned(),
        architectures: architectures.split(',').filter_map(|sm| sm.parse().ok()).collect(),
        others: Others::Unknown,
        ..Subject::default()
    })
}

/// What a lock's torch needs.
pub(crate) fn of_torch(name: &str, torch: &TorchFacts) -> Subject {
    Subject {
        name: name.to_owned(),
        cuda_major: torch.cuda.map(|cuda| cuda.major),
        driver_floor: torch.driver.as_ref().map(ToString::to_string),
        architectures: torch.architectures.clone(),
        ..Subject::default()
    }
}

/// What a lock needs, as far as it says.
fn of_lock(name: &str, lock: &Lock) -> Subject {
    let torch = lock.facts.torch.as_ref();
    let count = lock.wheels.iter().filter(|wheel| wheel.may_be_native()).count();
    Subject {
        without_torch: torch.is_none(),
        processor: Some(lock.facts.machine.as_str().to_owned()),
        others: if count == 0 { Others::None } else { Others::Packages(count) },
        ..torch.map_or_else(|| nameless(name), |torch| of_torch(name, torch))
    }
}

/// Something of which nothing is known but what it is called.
fn nameless(name: &str) -> Subject {
    Subject { name: name.to_owned(), ..Subject::default() }
}

/// The processor that an image is for, as the kernel calls it.
fn processor(store: &Store, image: &Image) -> Option<String> {
    let config = Config::parse(&store.config(image).ok()?).ok()?;
    let known = Machine::ALL.into_iter().find(|machine| config.is_for(machine.debian()));
    Some(known.map_or_else(|| config.platform(), |machine| machine.as_str().to_owned()))
}

/// What `text` (a folder, a tag, an image) needs, without building or downloading anything: by
/// the image of that name, by its lock, or by what a lock on the machine of `snapshot` would choose.
/// Nothing of a project that wants nothing and has no lock: the machine alone is judged.
///
/// # Errors
/// Another kind of target, an image that says nothing of itself, a project for which there is no torch.
pub fn of_target(
    text: &str,
    command: &'static str,
    builder: &Builder<'_>,
    snapshot: &Snapshot,
) -> Result<Option<Subject>, Error> {
    let target = Target::find_for(text, command, Kind::JUDGED)?;
    let project = target.project();
    let lock = project.map(|project| builder.existing_lock(project)).transpose()?.flatten();
    if let Some(image) = target.stored(builder.store)? {
        let subject = of_image(text, &image);
        if project.is_none() && !image.labels.contains_key("dev.sconce.lock") {
            return Err(Error::NoLabels(text.to_owned()));
        }
        if lock.is_none() || subject.is_some() {
            let others = lock.as_ref().map_or(Others::Unknown, |lock| of_lock(text, lock).others);
            let processor = processor(builder.store, &image);
            let without_torch = subject.is_none();
            let subject = subject.unwrap_or_else(|| nameless(text));
            return Ok(Some(Subject { without_torch, processor, others, ..subject }));
        }
    }
    let Some(project) = project else { return Err(Error::NotPulled(text.to_owned())) };
    if let Some(lock) = lock {
        let stale = lock.check_spec(project.spec()).is_err();
        let undecided = stale.then(|| "was changed after it was locked".to_owned());
        return Ok(Some(Subject { undecided, ..of_lock(text, &lock) }));
    }
    let asked = &project.spec().environment;
    let processor = asked.platform.map(|platform| platform.as_str().to_owned());
    let alone = matches!(&asked.requirements, Requirements::List(list) if list.is_empty());
    // Any requirement may want another torch than the newest that fits this machine.
    if !alone && !asked.torch.is_one() {
        let undecided = Some("is not locked".to_owned());
        return Ok(Some(Subject { undecided, processor, ..nameless(text) }));
    }
    if asked.torch == TorchRequest::None {
        return Ok(None);
    }
    let host = host(snapshot);
    let any = Host { driver: None, gpus: Vec::new(), ..host.clone() };
    // Where no release fits this machine, the rules say what is wrong with the one asked for.
    let torch = sconce_lock::foresee(project.spec(), &host)
        .or_else(|refused| sconce_lock::foresee(project.spec(), &any).map_err(|_| refused))?;
    let torch = torch.ok_or_else(|| Error::Unforeseen(text.to_owned()))?;
    let subject = of_torch(&format!("torch {}", torch.version), &torch);
    Ok(Some(Subject { others: Others::Unknown, processor, ..subject }))
}

/// The machine of a snapshot, as a lock sees it.
fn host(snapshot: &Snapshot) -> Host {
    let gpus = snapshot
        .gpus
        .iter()
        .filter_map(|gpu| Some(HostGpu { name: gpu.model.clone(), capability: gpu.capability? }));
    Host {
        machine: snapshot.arch.parse().ok(),
        driver: snapshot.driver_version(),
        gpus: gpus.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_blob::Digest;

    fn image(labels: &[(&str, &str)]) -> Image {
        let labels =
            labels.iter().map(|(key, value)| (format!("dev.sconce.{key}"), (*value).into()));
        Image {
            manifest: Digest::of(b"manifest"),
            config: Digest::of(b"config"),
            layers: Vec::new(),
            names: Vec::new(),
            size: 0,
            created: None,
            labels: labels.collect(),
            last_used: std::time::SystemTime::UNIX_EPOCH,
            store: "/store".into(),
        }
    }

    #[test]
    fn a_lock_says_what_it_holds_beside_torch() {
        let wheel = |name: &str, file: &str| sconce_lock::Wheel {
            name: name.into(),
            version: "1.0".into(),
            file: file.into(),
            size: None,
            sha256: Digest::of(name.as_bytes()),
            index: "pypi".into(),
            url: None,
            variant: None,
        };
        let facts = sconce_lock::Facts::of_base(Machine::Aarch64, "trixie", "3.13", "2.41");
        let mut lock = Lock::of_facts(facts);
        lock.wheels = vec![wheel("six", "six-1.0-py3-none-any.whl")];
        let subject = of_lock("mine", &lock);
        assert_eq!((subject.without_torch, subject.others), (true, Others::None));
        assert_eq!(subject.processor.as_deref(), Some("aarch64"));
        lock.wheels.push(wheel("torchao", "torchao-1.0-cp39-abi3-manylinux_2_28_aarch64.whl"));
        assert_eq!(of_lock("mine", &lock).others, Others::Packages(1));
    }

    #[test]
    fn labels_say_what_an_image_needs() {
        let built = image(&[
            ("lock", "sha256:0"),
            ("torch", "2.15.0"),
            ("cuda", "13.2"),
            ("driver", "580.65.06"),
            ("architectures", "sm_80,sm_90,nonsense"),
        ]);
        let subject = of_image("mine", &built).unwrap();
        assert_eq!(
            (subject.cuda_major, subject.driver_floor.as_deref()),
            (Some(13), Some("580.65.06"))
        );
        assert_eq!(subject.architectures.len(), 2);
        let cpu =
            of_image("cpu", &image(&[("lock", "sha256:0"), ("torch", "2.15.0+cpu")])).unwrap();
        assert_eq!((cpu.cuda_major, cpu.architectures.len()), (None, 0));
        assert_eq!(of_image("plain", &image(&[("lock", "sha256:0")])), None);
    }
}
