//! The client of registries, against a registry in memory that fails as told, and against Debian's `docker-registry`,
//! `nginx` and `skopeo`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start a registry themselves, and measure how long a client waits"
)]

mod any_faults;
mod blobs;
#[expect(dead_code, reason = "the tests of fleets use more of it")]
mod docker;
mod docker_registry;
mod folder_server;
mod login;
mod manifests;
mod object_stores;
mod places;
mod releases;
mod retries;
mod running;
mod sbom;
mod server;
mod signed_releases;
mod skopeo;
mod support;
mod uploads;
mod uris;
mod web_places;
mod whole_runs;
