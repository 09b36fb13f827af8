//! The container of a command that starts one to find something out in it: `verify`, `bench`.

use sconce_start::{Ready, Target};

use crate::cli::Global;
use crate::commands::options::Options;
use crate::commands::paths;
use crate::context::{Context, environment};
use crate::error::Failure;
use crate::trust;

/// All that the container of `target` needs, for the command of that name.
pub fn ready(
    global: &Global,
    command: &'static str,
    target: &str,
    options: &Options,
) -> Result<Ready, Failure> {
    let request = options.request()?;
    let found = Target::find_for(&paths::target(target)?, command, sconce_start::Kind::STARTABLE)?;
    let context = Context::open(&options.global(global))?;
    let builder = context.builder(None);
    trust::check_target(&found, &builder, options.trust)?;
    let (access, policy) = (options.registries.access(&context)?, context.policy()?);
    let environment = environment();
    let (rights, found) = ((&access, &policy), &found);
    Ok(sconce_start::ready(request, found, target, &builder, rights, &environment)?)
}
