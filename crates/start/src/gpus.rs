//! `--gpus`: which of this machine's GPUs a container gets, and what comes with them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sconce_doctor::{Severity, Snapshot, Subject, before_start};
use sconce_gpu::affinity::{self, Near};
use sconce_gpu::cdi::{self, Edits};
use sconce_gpu::driver::{self, Driver};
use sconce_gpu::job::Job;
use sconce_gpu::select::{self, Selection};
use sconce_gpu::{Machine, compat, linker};
use sconce_run::{Container, Volume};
use serde_json::json;

use crate::error::Error;

/// The largest linker's cache that is read, bytes: one of 10,000 libraries has 2 MB.
const LARGEST_CACHE: u64 = 16 << 20;

/// How long NVML may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was chosen. The GPUs stay locked while it lives.
pub struct Gpus {
    edits: Option<Edits>,
    driver: Option<Driver>,
    /// The devices, and the locks on them.
    selection: Option<Selection>,
    /// The machine with the GPUs chosen; absent without any.
    seen: Option<Snapshot>,
    /// The processors near them, where that is a choice.
    pub(crate) near: Option<Near>,
    /// Whether GPUs were asked for, and not only had because they are there.
    asked: bool,
}

/// Chooses GPUs by the words of `--gpus`. Nothing said means all that can be had: on a machine
/// without a driver that is none, and with a broken one that is a remark.
pub(crate) fn choose(
    request: Option<&str>,
    driver_root: Option<&Path>,
    note: &dyn Fn(&str),
) -> Result<Gpus, Error> {
    let none =
        Gpus { edits: None, driver: None, selection: None, seen: None, near: None, asked: false };
    let named = request.map(select::parse).transpose()?;
    if named == Some(select::Request::None) {
        return Ok(none);
    }
    let mut machine = Machine::host();
    if let Some(root) = driver_root {
        machine = machine.with_driver_root(root);
    }
    let job = Job::of(&|name| std::env::var(name).ok());
    let driver = match (driver::find(&machine), &named) {
        (Ok(mut driver), request)
            if job.names_instances()
                || matches!(
                    request,
                    Some(select::Request::Count(_) | select::Request::Named(_))
                ) =>
        {
            // UUIDs of MIG instances, and which GPUs are busy, only NVML knows.
            driver::with_nvml(&machine, &mut driver.survey, PATIENCE);
            driver
        }
        (Ok(driver), _) => driver,
        (Err(sconce_gpu::Error::NoDriver { .. }), None) => return Ok(none),
        (Err(error), None) => {
            note(&format!("no GPU in the container: {error}"));
            return Ok(none);
        }
        (Err(error), Some(_)) => return Err(Error::Driver(error)),
    };
    let asked = named.is_some();
    let request = named.unwrap_or(select::Request::All);
    let selection = match select::choose(&request, &machine, &driver, &job) {
        Err(error @ sconce_gpu::Error::NoneGiven { .. }) if !asked => {
            note(&format!("no GPU in the container: {error}"));
            return Ok(none);
        }
        selection => selection?,
    };
    let plan = cdi::plan(&machine, &driver, &selection)?;
    selection.notes.iter().chain(&plan.notes).for_each(|text| note(text));
    let buses = selection.devices.iter().map(|device| device.gpu.bus_id.as_str());
    let buses: Vec<&str> = buses.collect();
    let seen = Some(Snapshot::glance(&machine, &driver.survey).only(&buses));
    let near = affinity::near(&machine, &buses);
    Ok(Gpus {
        edits: Some(plan.edits),
        driver: Some(driver),
        selection: Some(selection),
        seen,
        near,
        asked,
    })
}

impl Gpus {
    /// The locks on the GPUs, for a process that outlives this one.
    pub(crate) fn into_locks(self) -> Vec<std::os::fd::OwnedFd> {
        self.selection.map_or_else(Vec::new, |selection| selection.guard.into_descriptors())
    }

    /// How many devices CUDA will show: of several MIG instances it takes one.
    pub fn devices(&self) -> usize {
        let devices = self.selection.iter().flat_map(|selection| &selection.devices);
        let (mig, whole): (Vec<_>, Vec<_>) = devices.partition(|device| device.instance.is_some());
        if mig.is_empty() { whole.len() } else { 1 }
    }

    /// How many boards the devices are on.
    pub fn boards(&self) -> usize {
        let devices = self.selection.iter().flat_map(|selection| &selection.devices);
        devices.map(|device| device.gpu.index).collect::<BTreeSet<_>>().len()
    }

    /// The PCI buses of the boards: `0000:04:00.0`.
    pub fn buses(&self) -> Vec<&str> {
        let devices = self.selection.iter().flat_map(|selection| &selection.devices);
        let buses: BTreeSet<&str> = devices.map(|device| device.gpu.bus_id.as_str()).collect();
        buses.into_iter().collect()
    }

    /// The devices, as `sconce ps` shows them: `0 NVIDIA H100 80GB HBM3`.
    pub(crate) fn names(&self) -> Vec<String> {
        let devices = self.selection.iter().flat_map(|selection| &selection.devices);
        devices.map(|device| format!("{} {}", device.name(), device.gpu.model)).collect()
    }

    /// How many were chosen; a MIG instance counts as one.
    pub fn count(&self) -> usize {
        self.selection.as_ref().map_or(0, |selection| selection.devices.len())
    }

    /// Asks doctor's rules: of the machine, or with `subject` of the two together. What can't work is
    /// refused in the finding's words unless `force` is given; a warning is a line.
    pub(crate) fn check(
        &self,
        subject: Option<&Subject>,
        force: bool,
        note: &dyn Fn(&str),
    ) -> Result<(), Error> {
        let Some(seen) = &self.seen else { return Ok(()) };
        for finding in before_start(seen, subject) {
            let mut what = finding.summary.clone();
            for seen in &finding.evidence {
                what += &format!("\n  seen: {seen}");
            }
            match finding.severity {
                Severity::Stops if !force => {
                    let hint = format!(
                        "{}\n(rule {}; --force starts all the same, --gpus none without GPUs)",
                        finding.advice(seen.container).join("\n"),
                        finding.rule.id
                    );
                    return Err(Error::Doctor { what, hint });
                }
                // A CPU build on a machine with GPUs is what many mean, unless they ask for GPUs.
                Severity::Warns if subject.is_some() && !self.asked => {}
                Severity::Stops | Severity::Unknown | Severity::Warns => {
                    note(&format!("{} (`sconce doctor` says more)", finding.summary));
                }
                Severity::Notes => {}
            }
        }
        Ok(())
    }

    /// Lets a newer libcuda in the image come before the driver's, where that is supported: on
    /// data-centre GPUs, under the driver branches that the facts list. Never otherwise: see the rule
    /// forward-compat.
    pub(crate) fn forward(&mut self, lowers: &[PathBuf], note: &dyn Fn(&str)) {
        let (Some(driver), Some(edits), Some(seen)) = (&self.driver, &mut self.edits, &self.seen)
        else {
            return;
        };
        let datacenter = |gpu: &sconce_doctor::Gpu| {
            let device = seen.pci.iter().find(|pci| pci.bus_id == gpu.bus_id);
            let row = device.and_then(|pci| sconce_facts::gpu_by_pci(&pci.device));
            row.or_else(|| sconce_facts::gpu(&gpu.model).ok()).is_some_and(|row| row.datacenter)
        };
        let (Ok(own), true) = (driver.version.parse(), seen.gpus.iter().all(datacenter)) else {
            return;
        };
        let found = compat::find(lowers).filter(|compat| {
            let newer = compat.version.parse();
            newer.is_ok_and(|newer| sconce_facts::forward_compatible(&own, &newer))
        });
        if let Some(found) = found {
            note(&format!(
                "the image's libcuda {} is used under the driver {own} (forward compatibility)",
                found.version
            ));
            compat::prefer(&found, &driver.survey, edits);
        }
    }

    /// Adds them to the container; `scratch` takes the links and files that come with them.
    pub(crate) fn apply(&self, container: &mut Container, scratch: &Path) -> Result<(), Error> {
        let Some(edits) = &self.edits else { return Ok(()) };
        let write = |source| Error::File { what: "write to", path: scratch.to_owned(), source };
        let mounts = edits.mounts.iter().map(|mount| {
            let way = if mount.read_only { "ro" } else { "rw" };
            json!({
                "hostPath": mount.host,
                "containerPath": mount.container,
                "options": [way, "nosuid", "nodev", "rbind", "rprivate"],
            })
        });
        let nodes =
            edits.nodes.iter().map(|node| json!({ "path": node.path, "hostPath": node.host }));
        let env = edits.env.iter().map(|(name, value)| format!("{name}={value}"));
        container.edits.push(json!({
            "env": env.collect::<Vec<_>>(),
            "deviceNodes": nodes.collect::<Vec<_>>(),
            "mounts": mounts.collect::<Vec<_>>(),
            "additionalGids": edits.groups,
        }));
        // Links and files lie in a layer of their own on top of the image's.
        let layer = scratch.join("gpu-layer");
        let inside = |path: &Path| layer.join(path.strip_prefix("/").unwrap_or(path));
        let parent = |path: &Path| match path.parent() {
            Some(parent) => fs::create_dir_all(parent),
            None => Ok(()),
        };
        for link in &edits.links {
            let path = inside(&link.path);
            parent(&path).and_then(|()| symlink(&link.target, &path)).map_err(write)?;
        }
        for (count, file) in edits.files.iter().enumerate() {
            let kernel = file.path.starts_with("/proc");
            let path = match kernel {
                true => scratch.join(format!("gpu-file-{count}")),
                false => inside(&file.path),
            };
            parent(&path).and_then(|()| fs::write(&path, &file.contents)).map_err(write)?;
            if kernel {
                let target = file.path.clone();
                container.volumes.push(Volume {
                    source: path,
                    target,
                    read_only: true,
                    resolved: false,
                });
            }
        }
        if !edits.linker.is_empty() {
            let cache = sconce_open::Layers::open(&container.lowers)
                .and_then(|layers| layers.read(Path::new("etc/ld.so.cache"), LARGEST_CACHE))
                .map_err(|why| Error::ImageFile {
                    path: "etc/ld.so.cache".to_owned(),
                    why: why.to_string(),
                })?;
            let bytes = linker::with(cache.as_deref(), &edits.linker)?;
            let path = inside(Path::new("/etc/ld.so.cache"));
            parent(&path).and_then(|()| fs::write(&path, bytes)).map_err(write)?;
        }
        if layer.exists() {
            container.lowers.insert(0, layer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start on the recorded H100, with what `change` does to it.
    fn check(
        change: impl FnOnce(&mut Snapshot),
        subject: Option<&Subject>,
        asked: bool,
        force: bool,
    ) -> Result<(), Error> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../doctor/tests/snapshots/h100-vm.json");
        let mut seen = Snapshot::load(Path::new(path)).unwrap();
        change(&mut seen);
        let seen = Some(seen);
        let gpus = Gpus { edits: None, driver: None, selection: None, seen, near: None, asked };
        gpus.check(subject, force, &|_| {})
    }

    fn torch(cuda: Option<u16>, sm: &str) -> Subject {
        Subject {
            name: "an image".into(),
            cuda_major: cuda,
            driver_floor: None,
            architectures: vec![sm.parse().unwrap()],
            ..Subject::default()
        }
    }

    #[test]
    fn what_can_not_work_is_refused_unless_forced() {
        let no_uvm = |seen: &mut Snapshot| {
            seen.nodes.retain(|node| !node.path.ends_with("nvidia-uvm"));
        };
        let refused = check(no_uvm, None, false, false).unwrap_err();
        assert!(matches!(refused, Error::Doctor { .. }));
        let words = format!("{refused:?}");
        for word in
            ["/dev/nvidia-uvm is missing", "modprobe", "uvm-missing", "--force", "--gpus none"]
        {
            assert!(words.contains(word), "{words}");
        }
        assert!(check(no_uvm, None, false, true).is_ok());
        assert!(check(|_| {}, None, true, false).is_ok());
    }

    #[test]
    fn image_and_machine_are_judged_together() {
        assert!(check(|_| {}, Some(&torch(Some(13), "sm_90")), true, false).is_ok());
        let old = |seen: &mut Snapshot| seen.driver.module = Some("535.104.05".into());
        let refused = check(old, Some(&torch(Some(13), "sm_90")), true, false).unwrap_err();
        assert!(format!("{refused:?}").contains("needs driver 580.65.06"), "{refused:?}");
        let refused = check(|_| {}, Some(&torch(Some(13), "sm_75")), true, false).unwrap_err();
        assert!(format!("{refused:?}").contains("no code for GPU 0"), "{refused:?}");
        // A CPU build is a warning.
        assert!(check(|_| {}, Some(&torch(None, "sm_75")), false, true).is_ok());
    }

    #[test]
    fn without_gpus_nothing_is_asked() {
        let none = Gpus {
            edits: None,
            driver: None,
            selection: None,
            seen: None,
            near: None,
            asked: true,
        };
        assert!(none.check(Some(&torch(Some(99), "sm_10")), false, &|_| {}).is_ok());
        assert_eq!(none.count(), 0);
    }
}
