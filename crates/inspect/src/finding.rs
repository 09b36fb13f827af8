//! What was found: one fact each, with its evidence and what to do about it.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something will fail.
    Error,
    /// Something may fail, or is not as it should be.
    Warning,
    /// Worth knowing.
    Note,
}

/// The kinds of findings; their names in JSON are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Bytes that contradict their format.
    BadBytes,
    /// Files or folders that could not be read at all.
    Unreadable,
    /// torch is a CPU-only build.
    CpuOnlyTorch,
    /// A needed library is nowhere.
    LibraryMissing,
    /// A needed library is there, but not where the loader looks.
    LibraryUnreachable,
    /// A library loaded by name at run time is not there.
    PluginMissing,
    /// The library that wins does not define a version that is needed.
    VersionMissing,
    /// The library that wins does not have a symbol that is needed.
    SymbolMissing,
    /// A folder of LD_LIBRARY_PATH is not there.
    LibraryPath,
    /// Libraries come from the machine, and not from what is inspected.
    HostLibrary,
    /// A package asks for another one that is not there, or not in that version.
    Requirement,
    /// A package lacks a file that it opens when it works.
    FileMissing,
    /// Another copy of a library wins over the one it was built with.
    Shadowed,
    /// Libraries that are opened later need more room for thread-local variables than there is.
    StaticTls,
    /// Parts of cuDNN come from different releases.
    MixedCudnn,
    /// Needs a newer glibc than there is.
    GlibcTooOld,
    /// Packages disagree with what torch was built for.
    VersionMismatch,
    /// The same library more than once.
    Duplicate,
    /// A libcuda for forward compatibility, which works on data-centre GPUs only.
    CompatLibrary,
    /// A driver library inside the image hides the machine's.
    DriverLibrary,
    /// torch.compile will find no C compiler.
    NoCompiler,
    /// A library has no code for a GPU.
    NoCode,
    /// A library made for another processor.
    WrongMachine,
    /// A virtual environment's Python is not there.
    PythonMissing,
    /// Python may take something from a place that was not inspected.
    NotInspected,
    /// What a wheel variant declares, against its code.
    Variant,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What kind of fact.
    pub kind: Kind,
    /// The file or package it is about.
    pub subject: String,
    /// What is the case, in one sentence.
    pub message: String,
    /// Where in the file, bytes, when it is about bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What shows it: paths, versions, symbols.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Whether it keeps code for a GPU from running.
    #[serde(skip)]
    pub gpu: bool,
    /// Whether it leaves open if code for a GPU runs: the answer is neither yes nor no.
    #[serde(skip)]
    pub undecided: bool,
}

impl Finding {
    /// A finding without evidence.
    pub fn new(
        severity: Severity,
        kind: Kind,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            kind,
            subject: subject.into(),
            message: message.into(),
            offset: None,
            evidence: Vec::new(),
            fix: None,
            gpu: false,
            undecided: false,
        }
    }

    /// With evidence.
    #[must_use]
    pub fn evidence(mut self, evidence: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.evidence.extend(evidence.into_iter().map(Into::into));
        self
    }

    /// With what to do.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// With whether it keeps code for a GPU from running.
    #[must_use]
    pub const fn gpu(mut self, gpu: bool) -> Self {
        self.gpu = gpu;
        self
    }

    /// With whether it leaves open if code for a GPU runs.
    #[must_use]
    pub const fn undecided(mut self, undecided: bool) -> Self {
        self.undecided = undecided;
        self
    }

    /// With the place in the file.
    #[must_use]
    pub const fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}
