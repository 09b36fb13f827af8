//! The seccomp filter of a container.

use crate::capabilities;
use crate::error::Error;
use crate::seccomp::{Context, Filter, Profile};
use crate::{Container, Seccomp};

/// The filter that `container` asks for, for processes with the capabilities of `bounding`.
pub(crate) fn of(container: &Container, bounding: u64) -> Result<Option<Filter>, Error> {
    let profile = match &container.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => Profile::docker_default(),
        Seccomp::Profile(text) => Profile::parse(text.as_bytes())?,
    };
    let names = capabilities::names(bounding);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(Some(profile.compile(&Context::host(&names))?))
}
