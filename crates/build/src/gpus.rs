//! What the wheels' bytes can run on, against the GPUs that the lock promises.
//!
//! While a layer is made, the headers of its GPU code are caught from the bytes that pass by anyway,
//! and remembered under the layer's plan. They are judged by the rules of `sconce inspect`.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use sconce_facts::Capability;
use sconce_inspect::scan::{self, Library, Scan};
use sconce_inspect::sieve::{Caught, Sieve};
use sconce_inspect::verdict::{Outcome, Verdict, verdict};
use sconce_layer::{LayerPlan, Meta, Unpack};
use sconce_lock::Facts;

use crate::builder::Builder;
use crate::error::Error;

/// The memo that leads from a plan's key to what was caught of its layer.
const MEMO: &str = "gpu-code-4";
/// A memo has at most 16 MiB; the largest of torch 2.15.0's set takes 3 MB.
const MAX_MEMO: usize = 15 << 20;

/// Catches GPU code on its way into a tree, or nowhere.
pub(crate) struct Sifter<'a> {
    inner: Option<&'a dyn Unpack>,
    caught: Mutex<Vec<(String, Caught)>>,
}

impl<'a> Sifter<'a> {
    pub(crate) fn new(inner: Option<&'a dyn Unpack>) -> Self {
        Self { inner, caught: Mutex::default() }
    }
}

impl Unpack for Sifter<'_> {
    fn directory(&self, path: &str, meta: &Meta) -> io::Result<()> {
        self.inner.map_or(Ok(()), |inner| inner.directory(path, meta))
    }

    fn file(&self, path: &str, meta: &Meta, size: u64) -> io::Result<Box<dyn Write + Send + '_>> {
        let inner = self.inner.map(|inner| inner.file(path, meta, size)).transpose()?;
        if !scan::may_be_code(path) {
            return Ok(inner.unwrap_or_else(|| Box::new(io::sink())));
        }
        Ok(Box::new(SiftedFile {
            inner,
            sieve: Some(Sieve::new(size).called(path)),
            path: path.to_owned(),
            caught: &self.caught,
        }))
    }

    fn symlink(&self, path: &str, target: &str, meta: &Meta) -> io::Result<()> {
        self.inner.map_or(Ok(()), |inner| inner.symlink(path, target, meta))
    }

    fn hardlink(&self, path: &str, target: &str) -> io::Result<()> {
        self.inner.map_or(Ok(()), |inner| inner.hardlink(path, target))
    }
}

/// One file that may have GPU code.
struct SiftedFile<'a> {
    inner: Option<Box<dyn Write + Send + 'a>>,
    sieve: Option<Sieve>,
    path: String,
    caught: &'a Mutex<Vec<(String, Caught)>>,
}

impl Write for SiftedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(inner) = &mut self.inner {
            inner.write_all(bytes)?;
        }
        if let Some(sieve) = &mut self.sieve {
            sieve.push(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(inner) = &mut self.inner {
            inner.flush()?;
        }
        let Some(sieve) = self.sieve.take() else { return Ok(()) };
        if let Some(caught) = sieve.finish(&self.path).map_err(io::Error::other)? {
            let mut all = self.caught.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((self.path.clone(), caught));
        }
        Ok(())
    }
}

/// How many files there are as `u64`, then their paths and what was caught of each: the length of the path
/// as `u64`, the path, the catch.
fn encode(mut files: Vec<(String, Caught)>) -> Vec<u8> {
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = (files.len() as u64).to_le_bytes().to_vec();
    for (path, caught) in &files {
        out.extend_from_slice(&(path.len() as u64).to_le_bytes());
        out.extend_from_slice(path.as_bytes());
        caught.write(&mut out);
    }
    out
}

/// Nothing if the bytes are damaged.
fn decode(bytes: &[u8]) -> Option<Vec<(String, Caught)>> {
    let (count, mut rest) = bytes.split_first_chunk::<8>()?;
    let mut files = Vec::new();
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let (path, tail) = tail.split_at_checked(len)?;
        let path = str::from_utf8(path).ok()?.to_owned();
        rest = tail;
        files.push((path, Caught::read(&mut rest)?));
    }
    (files.len() as u64 == u64::from_le_bytes(*count)).then_some(files)
}

impl Builder<'_> {
    /// Whether it is known what GPU code is in the layer of a plan, be it none. What can't be read is made
    /// again with the layer.
    pub(crate) fn has_gpu_code(&self, plan: &LayerPlan) -> bool {
        let memo = self.store.memo(MEMO, plan.key()).ok().flatten();
        memo.is_some_and(|memo| decode(&memo).is_some())
    }

    pub(crate) fn remember_gpu_code(&self, plan: &LayerPlan, sifter: Sifter) -> Result<(), Error> {
        let caught = sifter.caught.into_inner().unwrap_or_else(PoisonError::into_inner);
        let bytes = encode(caught);
        if bytes.len() > MAX_MEMO {
            let why =
                format!("the headers of the GPU code in {} are {} bytes", plan.name(), bytes.len());
            return Err(Error::Memo(why));
        }
        Ok(self.store.put_memo(MEMO, plan.key(), &bytes)?)
    }

    /// The libraries with GPU code in the layers of these plans, as far as they were made here.
    pub(crate) fn gpu_code(&self, plans: &[LayerPlan]) -> Result<Scan, Error> {
        let mut scan = Scan::default();
        for plan in plans {
            let Some(memo) = self.store.memo(MEMO, plan.key())? else { continue };
            let bad = || Error::Memo(format!("the GPU code of {}", plan.name()));
            for (path, caught) in decode(&memo).ok_or_else(bad)? {
                let library = scan::gpu_code(&path, &caught.skeleton())?;
                let by_name = caught.by_name;
                scan.libraries.extend(library.map(|library| Library { by_name, ..library }));
            }
        }
        Ok(scan)
    }

    /// That the wheels have code for every GPU that is promised.
    pub(crate) fn check_gpus(&self, facts: &Facts, plans: &[LayerPlan]) -> Result<(), Error> {
        if facts.gpus.is_empty() {
            return Ok(());
        }
        let scan = self.gpu_code(plans)?;
        for &gpu in &facts.gpus {
            let verdict = verdict(&scan, gpu, None, None);
            self.judge(gpu, &verdict, facts.torch.is_some())?;
        }
        Ok(())
    }

    fn judge(&self, gpu: Capability, verdict: &Verdict, torch: bool) -> Result<(), Error> {
        let gap = verdict.gaps.first();
        match (verdict.outcome, gap) {
            (Outcome::NoGpuCode, _) if torch => Err(Error::NoGpuCode { gpu }),
            (Outcome::Not, Some(gap)) => {
                let has: Vec<String> = gap.has.iter().map(ToString::to_string).collect();
                Err(Error::NoCode { gpu, library: gap.library.clone(), has: has.join(", ") })
            }
            (Outcome::Partial, Some(gap)) => {
                self.progress.note(&format!(
                    "{} has code for compute capability {gpu} in {} of its {} parts",
                    gap.library, gap.served, gap.of
                ));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_caught_survives_the_store() {
        let parts = vec![(0, 4), (90, 3)];
        let caught = Caught { size: 100, parts, bytes: b"headend".to_vec(), by_name: true };
        let files = vec![("lib/b.so".to_owned(), caught.clone()), ("lib/a.so".to_owned(), caught)];
        let bytes = encode(files.clone());
        let read = decode(&bytes).unwrap();
        assert_eq!(read, [files[1].clone(), files[0].clone()]);
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len}");
        }
        // A layer without GPU code is remembered too.
        let none = encode(Vec::new());
        assert!(!none.is_empty());
        assert_eq!(decode(&none), Some(Vec::new()));
    }

    /// One container with machine code for these capabilities (ten times major plus minor).
    fn fatbin(capabilities: &[u32]) -> Vec<u8> {
        let mut body = Vec::new();
        for capability in capabilities {
            let mut entry = [0; 64];
            entry[0] = 2;
            entry[4] = 64;
            entry[8] = 64;
            entry[28..32].copy_from_slice(&capability.to_le_bytes());
            body.extend(entry);
            body.extend([0xab; 64]);
        }
        let mut out = 0xBA55_ED50_u32.to_le_bytes().to_vec();
        out.extend([1, 0, 16, 0]);
        out.extend((body.len() as u64).to_le_bytes());
        out.extend(body);
        out
    }

    /// Makes the layers of a torch with this code for a lock that promises these GPUs, twice.
    fn make(code: &[u8], gpus: &[&str]) -> Result<(), Error> {
        let home = tempfile::tempdir().unwrap();
        let store = sconce_store::Store::open(home.path()).unwrap();
        let wheel = sconce_testkit::Wheel::new("torch", "2.99.0")
            .file("torch/lib/libtorch_cuda.so", code)
            .file("torch/__init__.py", b"");
        let sha256 = store.put_bytes(&wheel.build()).unwrap();
        let facts = Facts {
            machine: sconce_facts::Machine::X86_64,
            base: "trixie".into(),
            python: "3.13".into(),
            glibc: "2.41".into(),
            flavour: sconce_lock::Flavour::Runtime,
            bytecode: false,
            gpus: gpus.iter().map(|gpu| gpu.parse().unwrap()).collect(),
            prefer: Vec::new(),
            torch: Some(sconce_lock::TorchFacts {
                version: "2.99.0".into(),
                cuda: Some("13.2".parse().unwrap()),
                driver: None,
                architectures: Vec::new(),
                cudnn: None,
                nccl: None,
                triton: None,
            }),
        };
        let lock = sconce_lock::Lock {
            spec: sha256,
            inputs: None,
            facts,
            python: None,
            app: sconce_lock::App::default(),
            indexes: Vec::new(),
            wheels: vec![sconce_lock::Wheel {
                name: "torch".into(),
                version: "2.99.0".into(),
                file: wheel.file_name(),
                size: None,
                sha256,
                index: "pypi".into(),
                url: None,
                variant: None,
            }],
            sources: Vec::new(),
            project: None,
            debs: Vec::new(),
            build_debs: Vec::new(),
            sealed: None,
        };
        let client = sconce_fetch::http::Client::new(sconce_fetch::http::Options::default());
        let builder = Builder {
            project: None,
            store: &store,
            client: &client,
            progress: &crate::Silent,
            threads: 2,
            mirror: None,
        };
        let wheels = builder.open_wheels(&lock).unwrap();
        let plans = crate::wheels::wheel_plans(&lock, &wheels).unwrap().layers;
        let how = (crate::Trees::None, crate::later::Blobs::Now);
        let layers = || builder.wheel_layers(&lock.facts, &plans, how, &Default::default());
        let (first, again) = (layers(), layers());
        // What is remembered says the same.
        assert_eq!(first.as_ref().err().map(Error::to_string), again.err().map(|e| e.to_string()));
        first.map(drop)
    }

    #[test]
    fn what_the_lock_promises_must_be_in_the_bytes() {
        make(&fatbin(&[80, 90]), &["8.0", "8.6", "9.0"]).unwrap();
        make(&fatbin(&[80, 90]), &[]).unwrap();
        let error = make(&fatbin(&[80, 90]), &["7.0", "9.0"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the lock promises compute capability 7.0 (V100 SXM2, V100 PCIe, Titan V), but \
             opt/venv/lib/python3.13/site-packages/torch/lib/libtorch_cuda.so has no code for it: it \
             has sm_80, sm_90"
        );
        let error = make(b"no library at all", &["9.0"]).unwrap_err();
        assert!(matches!(error, Error::NoGpuCode { .. }), "{error}");
        make(b"no library at all", &[]).unwrap();
    }
}
