//! Debian's `docker-registry` on this machine, with a folder of its own, and what is in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use super::proxy::{Proxy, free_address};
use crate::project::read;

/// A registry that runs until it is dropped.
pub(super) struct Registry {
    process: Child,
    address: String,
    folder: PathBuf,
}

/// What a registry has on disk.
pub(super) struct Kept {
    pub(super) blobs: usize,
    pub(super) bytes: u64,
}

impl Registry {
    /// Starts an empty registry, whose files are in `folder`.
    pub(super) fn start(shell: &Shell, folder: &Path) -> Result<Self> {
        shell.remove_path(folder)?;
        shell.create_dir(folder)?;
        let address = free_address()?;
        let file = folder.join("config.json");
        let config = serde_json::json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": folder.join("registry") } },
            "http": { "addr": address },
        });
        shell.write_file(&file, config.to_string())?;
        // One line a request goes to stdout.
        let log = shell.current_dir().join(folder.join("requests.log"));
        let log = Stdio::from(create(&log)?);
        let mut process = Command::from(cmd!(shell, "docker-registry serve {file}"));
        let process = process
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry can't be started: install Debian's `docker-registry`")?;
        let registry = Self { process, address, folder: folder.into() };
        for _ in 0..1000 {
            if std::net::TcpStream::connect(&registry.address).is_ok() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("docker-registry does not listen on {}", registry.address)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns a proxy to it.
    pub(super) fn behind(&self, bytes_per_second: Option<u64>) -> Result<Proxy> {
        Proxy::start(self.address.clone(), bytes_per_second)
    }

    /// Returns how many requests it answered so far, without those that check whether it is there.
    pub(super) fn requests(&self, shell: &Shell) -> Result<usize> {
        let log = shell.read_file(self.folder.join("requests.log"))?;
        Ok(log.lines().filter(|line| line.contains(" /v2/") && !line.contains(" /v2/ ")).count())
    }

    pub(super) fn kept(&self, shell: &Shell) -> Result<Kept> {
        let blobs = self.folder.join("registry/docker/registry/v2/blobs");
        let sizes = read(cmd!(shell, "find {blobs} -name data -printf %s\\n"))?;
        let sizes: Vec<u64> = sizes.lines().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Kept { blobs: sizes.len(), bytes: sizes.iter().sum() })
    }
}

#[expect(clippy::disallowed_methods, reason = "a log that another process writes")]
fn create(path: &Path) -> Result<std::fs::File> {
    std::fs::File::create(path).with_context(|| format!("{} can't be written", path.display()))
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
