//! What a container gets, made from the driver that was found.
//!
//! Content as NVIDIA's toolkit chooses it: every library of the driver's version, its programs,
//! firmware, sockets, nodes. What the toolkit's hooks would do in the container is data here
//! (`docs/decision/0005-cdi-without-hooks.md`): links are listed, libraries go where the
//! container's loader looks without being told, and the linker's cache gets their entries.

use std::path::{Path, PathBuf};

use super::document::{self, ContainerEdits, DeviceNode, Document};
use super::{Edits, File, Link, Mount, Node};
use crate::driver::{Driver, Library, Survey};
use crate::linker::Entry;
use crate::select::{Device, KIND, Selection};
use crate::{Error, machine, programs};

/// Where the driver's libraries go in the container: the multiarch folder of Debian and Ubuntu,
/// which their loader searches by default.
pub fn library_folder(arch: &str) -> PathBuf {
    PathBuf::from(format!("/usr/lib/{arch}-linux-gnu"))
}

/// The folder that Fedora's, Red Hat's and SUSE's loaders search by default.
const LIB64: &str = "/usr/lib64";

/// What the container needs for the selected devices, made from the machine as it is now.
pub fn edits(driver: &Driver, selection: &Selection) -> Result<Edits, Error> {
    if selection.is_none() {
        return Ok(Edits::default());
    }
    let mut edits = shared(driver);
    for device in &selection.devices {
        for node in device_nodes(device)? {
            if !edits.nodes.contains(&node) {
                edits.nodes.push(node);
            }
        }
    }
    for needed in ["/dev/nvidiactl", "/dev/nvidia-uvm"] {
        if !edits.nodes.iter().any(|node| node.path == Path::new(needed)) {
            return Err(Error::NoNode { path: needed.into() });
        }
    }
    edits.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(edits)
}

/// The document for other engines: each GPU and instance by index and by UUID, and `all`.
///
/// It carries no device numbers: engines read them from the node when a container starts, and
/// those of nvidia-uvm change with each boot. It carries no hooks: see the decision page.
pub fn document(driver: &Driver) -> Result<Document, Error> {
    let mut shared = shared(driver);
    let folder = library_folder(&driver.survey.arch);
    // An image of another engine can be of any distribution: both families' default folders.
    let doubled = shared.mounts.iter().filter_map(|mount| {
        let below = mount.container.strip_prefix(&folder).ok()?;
        Some(Mount { container: Path::new(LIB64).join(below), ..mount.clone() })
    });
    let doubled: Vec<Mount> = doubled.collect();
    let links = shared.links.iter().filter_map(|link| {
        let below = link.path.strip_prefix(&folder).ok()?;
        Some(Link { path: Path::new(LIB64).join(below), target: link.target.clone() })
    });
    let links: Vec<Link> = links.collect();
    shared.mounts.extend(doubled);
    shared.links.extend(links);
    // The one known program that looks into the linker's cache, which no mount can extend.
    shared.env.push(("TRITON_LIBCUDA_PATH".into(), folder.display().to_string()));

    let mut devices = Vec::new();
    let mut all: Vec<Node> = Vec::new();
    for gpu in driver.gpus() {
        let whole = (!gpu.mig_mode).then(|| Device { gpu: gpu.clone(), instance: None });
        let parts =
            gpu.mig.iter().map(|mig| Device { gpu: gpu.clone(), instance: Some(mig.clone()) });
        for device in whole.into_iter().chain(parts) {
            let nodes = device_nodes(&device)?;
            let edits = Edits { nodes: nodes.clone(), ..Edits::default() };
            let names = [Some(device.name()), device.uuid().map(str::to_owned)];
            devices.extend(names.into_iter().flatten().map(|name| document::Device {
                name,
                annotations: Default::default(),
                container_edits: container_edits(&edits, false),
            }));
            all.extend(nodes);
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.dedup();
    let edits = Edits { nodes: all, ..Edits::default() };
    devices.push(document::Device {
        name: "all".into(),
        annotations: Default::default(),
        container_edits: container_edits(&edits, false),
    });
    let mut document = Document {
        cdi_version: String::new(),
        kind: KIND.into(),
        annotations: Default::default(),
        devices,
        container_edits: container_edits(&shared, false),
    };
    document.cdi_version = document.lowest_version().into();
    Ok(document)
}

/// What every container with a GPU gets, whichever GPU it is.
fn shared(driver: &Driver) -> Edits {
    let survey = &driver.survey;
    let mut edits = Edits::default();
    let folder = library_folder(&survey.arch);
    for library in &survey.libraries {
        place(library, &folder, &survey.arch, &mut edits);
    }
    for program in &survey.programs {
        if let Some(name) = program.file_name() {
            let path = Path::new(programs::FOLDER).join(name);
            match survey.companions.iter().find(|one| one.host == *program) {
                Some(own) if own.container != path => {
                    edits.links.push(Link { path, target: own.container.display().to_string() })
                }
                _ => edits.mounts.push(bind(program, path)),
            }
        }
    }
    for companion in &survey.companions {
        match survey.libraries.iter().find(|library| library.path == companion.host) {
            Some(library) => edits.links.push(Link {
                path: companion.container.clone(),
                target: folder.join(&library.name).display().to_string(),
            }),
            None => edits.mounts.push(bind(&companion.host, companion.container.clone())),
        }
    }
    for firmware in &survey.firmware {
        if let Some(name) = firmware.file_name() {
            let to = Path::new("/lib/firmware/nvidia").join(&driver.version).join(name);
            edits.mounts.push(bind(firmware, to));
        }
    }
    for (file, name) in &survey.share {
        edits.mounts.push(bind(file, Path::new("/usr/share").join(name)));
    }
    edits.mounts.extend(survey.storage.iter().map(|path| bind(path, path.clone())));
    for socket in &survey.sockets {
        let mount = Mount { read_only: false, ..bind(socket, socket.clone()) };
        edits.mounts.push(mount);
    }
    edits.mounts.sort_by(|a, b| a.container.cmp(&b.container));
    edits.links.sort_by(|a, b| a.path.cmp(&b.path));
    edits.linker.sort_by(|a, b| a.name.cmp(&b.name));
    edits.nodes = survey.control.iter().chain(&survey.network).map(node).collect();
    edits.files.extend(keep_nodes(survey));
    // NVIDIA's runtime, where it is installed too, must not inject a second time.
    edits.env.push(("NVIDIA_VISIBLE_DEVICES".into(), "void".into()));
    edits
}

/// One library with its links and its lines in the linker's cache.
pub(super) fn place(library: &Library, folder: &Path, arch: &str, edits: &mut Edits) {
    // Libraries for VDPAU lie in a folder below, which the linker does not search.
    let vdpau = library.name.starts_with("libvdpau_");
    let folder = if vdpau { folder.join("vdpau") } else { folder.to_owned() };
    edits.mounts.push(bind(&library.path, folder.join(&library.name)));
    for link in &library.links {
        edits.links.push(Link { path: folder.join(link), target: library.name.clone() });
    }
    if vdpau {
        return;
    }
    let known = if library.links.is_empty() {
        std::slice::from_ref(&library.name)
    } else {
        library.links.as_slice()
    };
    edits.linker.extend(known.iter().map(|name| Entry::new(name, folder.join(name), arch)));
}

/// The driver's libraries make missing nodes by themselves and change the mode of others; in a
/// container that undoes the choice of GPUs. The module's parameters tell them not to.
pub(super) fn keep_nodes(survey: &Survey) -> Option<File> {
    let parameters = survey.parameters.as_ref()?;
    let kept = parameters.replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0");
    (kept != *parameters).then(|| File {
        path: "/proc/driver/nvidia/params".into(),
        contents: format!("{kept}\n").into_bytes(),
    })
}

/// The nodes of one device: the GPU's, and for an instance its two capabilities.
fn device_nodes(device: &Device) -> Result<Vec<Node>, Error> {
    let missing = || Error::NoNode { path: format!("/dev/nvidia{}", device.gpu.minor).into() };
    let mut nodes = vec![node(device.gpu.node.as_ref().ok_or_else(missing)?)];
    for capability in device.instance.iter().flat_map(|instance| &instance.capabilities) {
        let missing = || Error::NoNode { path: capability.path.clone() };
        nodes.push(node(capability.node.as_ref().ok_or_else(missing)?));
    }
    Ok(nodes)
}

pub(super) fn node(node: &machine::Node) -> Node {
    Node {
        path: node.path.clone(),
        host: node.path.clone(),
        major: node.major,
        minor: node.minor,
        mode: node.mode,
    }
}

fn bind(host: &Path, container: PathBuf) -> Mount {
    Mount { host: host.to_owned(), container, read_only: true }
}

/// The mount that a link leads to, over at most one link between.
fn source_of<'a>(link: &Link, edits: &'a Edits) -> Option<&'a Mount> {
    let target = |link: &Link| Some(link.path.parent()?.join(&link.target));
    let mount = |path: &Path| edits.mounts.iter().find(|mount| mount.container == path);
    let first = target(link)?;
    mount(&first).or_else(|| mount(&target(edits.links.iter().find(|one| one.path == first)?)?))
}

/// Edits in CDI's words; `numbers` adds what the nodes are just now.
pub(super) fn container_edits(edits: &Edits, numbers: bool) -> ContainerEdits {
    let mount = |host: &Path, container: &Path, read_only: bool| {
        let way = if read_only { "ro" } else { "rw" };
        let options = [way, "nosuid", "nodev", "rbind", "rprivate"];
        document::Mount {
            host_path: host.to_owned(),
            container_path: container.to_owned(),
            kind: None,
            options: options.map(str::to_owned).to_vec(),
        }
    };
    let mut mounts: Vec<document::Mount> =
        edits.mounts.iter().map(|one| mount(&one.host, &one.container, one.read_only)).collect();
    for link in &edits.links {
        if let Some(source) = source_of(link, edits) {
            mounts.push(mount(&source.host, &link.path, source.read_only));
        }
    }
    mounts.sort_by(|a, b| a.container_path.cmp(&b.container_path));
    let nodes = edits.nodes.iter().map(|node| DeviceNode {
        path: node.path.clone(),
        host_path: (node.host != node.path).then(|| node.host.clone()),
        kind: numbers.then(|| "c".into()),
        major: numbers.then_some(node.major),
        minor: numbers.then_some(node.minor),
        file_mode: numbers.then_some(node.mode),
        permissions: numbers.then(|| "rw".into()),
        uid: None,
        gid: None,
    });
    ContainerEdits {
        env: edits.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        device_nodes: nodes.collect(),
        mounts,
        additional_gids: edits.groups.clone(),
        ..ContainerEdits::default()
    }
}
