//! Debian's `docker-registry` on this machine's loopback, for as long as a trial takes.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use xshell::{Shell, cmd};

use crate::project::{Project, output, start};

/// How often it is asked whether it listens, and how long between.
const TRIES: u32 = 400;
const WAIT: Duration = Duration::from_millis(50);

/// A registry that ends when it is dropped.
pub(super) struct Registry {
    process: Child,
    /// `127.0.0.1:PORT`.
    pub(super) address: String,
}

/// Returns why there can be none here, if that is so.
pub(super) fn impossible(shell: &Shell) -> Option<String> {
    let is_there =
        output(cmd!(shell, "docker-registry --version")).is_ok_and(|output| output.status.success());
    (!is_there).then(|| "install Debian's `docker-registry`".into())
}

impl Registry {
    /// Starts an empty one that keeps everything in a folder.
    pub(super) fn start(project: &Project, folder: &Path) -> Result<Self> {
        let shell = &project.shell;
        let free = TcpListener::bind("127.0.0.1:0").context("the loopback has no free port")?;
        let address = free.local_addr().context("a socket has no address")?.to_string();
        drop(free);
        let config = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": folder.join("registry") } },
            "http": { "addr": address },
        });
        let (file, log) = (folder.join("registry.yml"), folder.join("registry.log"));
        // YAML reads JSON.
        shell.write_file(&file, config.to_string())?;
        let script = "exec docker-registry serve \"$1\" >\"$2\" 2>&1";
        let process = start(cmd!(shell, "bash -c {script} docker-registry {file} {log}"))?;
        let mut registry = Self { process, address };
        let mut listens = false;
        for _ in 0..TRIES {
            // Another process may have taken the port.
            let ended = registry.process.try_wait().context("docker-registry can't be waited for")?;
            listens = ended.is_none() && TcpStream::connect(&registry.address).is_ok();
            if listens || ended.is_some() {
                break;
            }
            std::thread::sleep(WAIT);
        }
        ensure!(listens, "docker-registry does not listen: {}", shell.read_file(&log).unwrap_or_default());
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
