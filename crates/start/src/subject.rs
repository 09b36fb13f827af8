//! What is to run, as `doctor` and a start judge it: from an image's labels, a lock, or the facts.

use sconce_build::Builder;
use sconce_doctor::{Snapshot, Subject};
use sconce_lock::{Host, HostGpu, TorchFacts, TorchRequest};
use sconce_store::Image;

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
    })
}

/// What a lock's torch needs.
pub(crate) fn of_torch(name: &str, torch: &TorchFacts) -> Subject {
    Subject {
        name: name.to_owned(),
        cuda_major: torch.cuda.map(|cuda| cuda.major),
        driver_floor: torch.driver.as_ref().map(ToString::to_string),
        architectures: torch.architectures.clone(),
    }
}

/// What `text` (a folder, a tag, an image) needs, without building or downloading anything: by
/// the image of that name, by its lock, or by what a lock on the machine of `snapshot` would choose.
/// Nothing where it holds no torch, so that the machine alone is judged.
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
    if let Some(image) = target.stored(builder.store)? {
        let subject = of_image(text, &image);
        if target.project().is_none() {
            let built = image.labels.contains_key("dev.sconce.lock");
            return if built { Ok(subject) } else { Err(Error::NoLabels(text.to_owned())) };
        }
        if subject.is_some() {
            return Ok(subject);
        }
    }
    let Some(project) = target.project() else { return Err(Error::NotPulled(text.to_owned())) };
    if let Some(lock) = builder.existing_lock(project)? {
        if let Err(stale) = lock.check_spec(project.spec()) {
            builder.progress.note(&format!("judged by the lock as it is: {stale}"));
        }
        return Ok(lock.facts.torch.as_ref().map(|torch| of_torch(text, torch)));
    }
    if project.spec().environment.torch == TorchRequest::None {
        return Ok(None);
    }
    let host = host(snapshot);
    let any = Host { driver: None, gpus: Vec::new(), ..host.clone() };
    // Where no release fits this machine, the rules say what is wrong with the one asked for.
    let torch = sconce_lock::foresee(project.spec(), &host)
        .or_else(|refused| sconce_lock::foresee(project.spec(), &any).map_err(|_| refused))?;
    let torch = torch.ok_or_else(|| Error::Unforeseen(text.to_owned()))?;
    Ok(Some(of_torch(&format!("torch {}", torch.version), &torch)))
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
