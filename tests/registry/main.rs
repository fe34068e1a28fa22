//! The client of registries, against a registry in memory that fails as told, and against Debian's `docker-registry` and
//! `nginx`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start a registry themselves, and measure how long a client waits"
)]

mod any_faults;
mod blobs;
mod docker_registry;
mod folder_server;
mod login;
mod manifests;
mod places;
mod releases;
mod retries;
mod server;
mod support;
mod uploads;
mod web_places;
