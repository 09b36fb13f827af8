//! The cgroups of a container, by libcgroups.

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, ControllerOpt, FreezerState,
    create_cgroup_manager,
};
use libcontainer::oci_spec::runtime::LinuxResources;

use super::error::Error;
use super::record::Record;

fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::Container(format!("{what}: {}", super::chain(error)))
}

impl Record {
    pub(super) fn cgroup_config(&self) -> CgroupConfig {
        CgroupConfig {
            cgroup_path: self.cgroup.clone(),
            systemd_cgroup: self.systemd,
            container_name: self.id.clone(),
        }
    }

    fn cgroups(&self) -> Result<AnyCgroupManager, Error> {
        create_cgroup_manager(self.cgroup_config())
            .map_err(|error| failed("finding the cgroup", &error))
    }

    /// The processes in it; none where there is no group.
    pub(super) fn processes(&self) -> Vec<i32> {
        let all = self.cgroups().ok().and_then(|groups| groups.get_all_pids().ok());
        all.unwrap_or_default().into_iter().map(|pid| pid.as_raw()).collect()
    }

    pub(super) fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let state = if frozen { FreezerState::Frozen } else { FreezerState::Thawed };
        let what = if frozen { "pausing the cgroup" } else { "resuming the cgroup" };
        self.cgroups()?.freeze(state).map_err(|error| failed(what, &error))
    }

    pub(super) fn limit(&self, resources: &LinuxResources) -> Result<(), Error> {
        let options = ControllerOpt {
            resources,
            freezer_state: None,
            oom_score_adj: None,
            disable_oom_killer: false,
        };
        self.cgroups()?.apply(&options).map_err(|error| failed("changing the limits", &error))
    }

    /// Ends what is in the group and removes it.
    pub(super) fn remove_cgroups(&self) -> Result<(), Error> {
        self.cgroups()?.remove().map_err(|error| failed("removing the cgroup", &error))
    }
}
