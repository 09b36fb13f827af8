//! The seccomp filter of a container.

use crate::capabilities;
use crate::error::Error;
use crate::seccomp::{Context, Filter, Profile};
use crate::{Container, Seccomp};

/// The filter of the processes of ours beside the command: the default, unless there is to be none.
pub(crate) fn of_waiting(container: &Container, bounding: u64) -> Result<Option<Filter>, Error> {
    match &container.seccomp {
        Seccomp::Unconfined => Ok(None),
        _ => compile(&Profile::docker_default(), bounding).map(Some),
    }
}

/// The filter that `container` asks for, for processes with the capabilities of `bounding`.
pub(crate) fn of(container: &Container, bounding: u64) -> Result<Option<Filter>, Error> {
    let profile = match &container.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => Profile::docker_default(),
        Seccomp::Profile(text) => Profile::parse(text.as_bytes())?,
    };
    compile(&profile, bounding).map(Some)
}

fn compile(profile: &Profile, bounding: u64) -> Result<Filter, Error> {
    let names = capabilities::names(bounding);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(profile.compile(&Context::host(&names))?)
}
