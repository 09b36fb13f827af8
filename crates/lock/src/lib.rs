//! What you want (`sconce.toml`) to what it is, exactly (`sconce.lock`), with every choice explained.
//!
//! Nothing here touches the network or the clock: [`resolve`] asks the [`Index`] it is handed.

mod addresses;
mod blame;
mod candidate;
mod change;
mod conda;
mod document;
mod edit;
mod error;
mod explain;
mod foresee;
mod groups;
mod image_name;
mod index;
mod leads;
mod local;
mod on_disk;
mod place;
mod previous;
mod private;
mod pylock;
mod pyproject;
mod python;
pub mod reaches;
mod read;
mod read_checks;
mod refusal;
mod requests;
mod requirements;
mod requirements_txt;
mod resolve;
mod source;
mod spec;
mod spec_keys;
mod spec_parse;
mod spots;
mod tag;
mod target;
mod uv_lock;
mod verify;
mod wheel_name;
mod write;

pub use change::{Change, changes};
pub use document::{
    DebPin, Facts, IndexKind, IndexRow, Inputs, Layer, Lock, PythonPin, Sealed, TorchFacts,
    VERSION, Wheel,
};
pub use edit::{add, package_of, remove};
pub use error::{Beside, Error, Loosened, Place};
pub use explain::{Choice, Explanation, Refused};
pub use foresee::foresee;
pub use image_name::image_name_of;
pub use index::{
    DebianAnswer, DebianRequest, Generated, Index, IndexError, Libraries, ListedFile, Misnamed,
    Native, Need, NumpyApi, Overlap, OverlapQuestion, Overlaps, ProjectText, PythonAnswer,
    PythonRequest, TakenNames, TorchNames, UvLockRequest,
};
pub use leads::Leads;
pub use previous::{Previous, Upgrade};
pub use pylock::{Package, Pylock, PylockWheel, Source as PylockSource};
pub use requirements::{FileKind, Included, ProjectFile, RequirementsFile, project_file};
pub use requirements_txt::{Ask, Line};
pub use resolve::{Host, HostGpu, leaves_numpy_open, newest_listed, resolve};
pub use sconce_facts::{
    Base, Machine, UvRow, base, base_with, python_releases, pythons, uv as resolver,
};
pub use source::{
    Built, FolderRequest, Offer, Order, Outcome, OwnProject, PROJECT, RECIPE, Rebuilt, SOURCE,
    Sdist, Source, SourceRequest, placeholder,
};
pub use spec::{
    App, BaseRequest, CudaRequest, DriverRequest, Environment, Flavour, GpuRequest, ImageRequest,
    IndexRequest, Launch, Requirements, Run, Spec, TorchRequest,
};
pub use target::Target;
pub use wheel_name::WheelName;
