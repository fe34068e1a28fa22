//! Debian's `docker-registry` (2.8), started and stopped by each test. Where it isn't installed, `cargo xtask test` leaves
//! these tests out by the end of their names, and says so.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nimctl::registry::Repository;
use serde_json::json;

/// `me` with the password of the other tests, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2b$04$g91HPr9rv8iIwxEkg/TN1.1sqTHs1P5AA4Dk28U69UKqAJsS9hnYO\n";

pub(crate) struct DockerRegistry {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl DockerRegistry {
    pub(crate) fn start() -> Self {
        Self::start_with(false, false)
    }

    /// With a login, and such that manifests can be deleted.
    pub(crate) fn start_with(with_login: bool, deletes: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut config = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": {
                "filesystem": { "rootdirectory": folder.path().join("registry") },
                "delete": { "enabled": deletes },
            },
            "http": { "addr": address },
        });
        if with_login {
            let file = folder.path().join("htpasswd");
            fs_err::write(&file, HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": file } });
        }
        let file = folder.path().join("config.yml");
        // YAML reads JSON.
        fs_err::write(&file, config.to_string()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(fs_err::File::create(folder.path().join("requests")).unwrap().into_file())
            .stderr(Stdio::null())
            .spawn()
            .expect("install Debian's `docker-registry`, or leave the test out by its name");
        let begin = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address, folder }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns where something of its folder is.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the requests that it got, as `GET /v2/…`, in its order.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs_err::read_to_string(self.folder.path().join("requests")).unwrap();
        let request = |line: &str| Some(line.split('"').nth(1)?.rsplit_once(' ')?.0.to_owned());
        log.lines().filter_map(request).collect()
    }

    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.address, name).unwrap()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
