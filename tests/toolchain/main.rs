//! Toolchains and sources from the outside: a real pip against a folder of wheels, scripted interpreters for what pip
//! can't be made to do, and a web server on the loopback. Nothing here uses the network.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, wait for them and are told where things are"
)]

mod export;
mod fixture;
mod https;
mod install;
mod locate;
mod pip_failures;
mod pip_source;
