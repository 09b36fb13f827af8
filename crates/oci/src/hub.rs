//! Docker Hub's names: what people write, what configurations of docker have, and where its registry is.
//!
//! Source: `distribution/reference` (`defaultDomain`, `legacyDefaultDomain`); docker's `registry/config.go` (`DefaultRegistryHost`).

/// As names say it.
pub const DOCKER_HUB: &str = "docker.io";
/// As it is reached.
pub const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";
/// All of its hosts, which are one registry: the one that docker keeps logins under first.
pub const DOCKER_HUB_HOSTS: [&str; 3] = ["index.docker.io", DOCKER_HUB, DOCKER_HUB_REGISTRY];
