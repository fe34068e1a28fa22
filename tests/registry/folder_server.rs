//! Folders served over http: by the tests' own server, and by Debian's nginx.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::{Answer, Request, Server};

/// Lets a server answer with the files of a folder, as web servers do: ranges, entity tags, 404 for the rest.
pub(crate) fn serve(server: &Server, root: &Path) {
    let root = root.to_path_buf();
    server.before(move |request| request.answer = Some(file(&root, request)));
}

/// Returns the answer to a request for a file.
pub(crate) fn file(root: &Path, request: &Request) -> Answer {
    let Ok(bytes) = fs_err::read(root.join(request.path.trim_start_matches('/'))) else {
        return Answer::new(404)
            .header("Content-Type", "text/html")
            .body(b"<html><h1>404 Not Found</h1></html>");
    };
    content(&bytes, request)
}

/// Returns the answer to a request for these bytes.
pub(crate) fn content(bytes: &[u8], request: &Request) -> Answer {
    let answer = Answer::new(200).header("ETag", format!("\"{}\"", nimctl::digest::Sha256::of(bytes)));
    if request.method == "HEAD" {
        return answer.header("Content-Length", bytes.len());
    }
    let Some(range) = request.header("range") else { return answer.body(bytes) };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(usize::MAX).min(bytes.len().saturating_sub(1));
    if first >= bytes.len() {
        return Answer::new(416).header("Content-Range", format!("bytes */{}", bytes.len()));
    }
    let range = format!("bytes {first}-{last}/{}", bytes.len());
    Answer { status: 206, ..answer }.header("Content-Range", range).body(&bytes[first..=last])
}

/// A running nginx that serves a folder.
pub(crate) struct Nginx {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts one; `more` goes into its `server` block.
    pub(crate) fn start(root: &Path, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
            .collect();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
             server {{\nlisten {address};\nroot {};\n{more}\n}}\n}}\n",
            path("pid"),
            path("errors"),
            root.display(),
        );
        let file = folder.path().join("nginx.conf");
        fs_err::write(&file, config).unwrap();
        let process = Command::new(program())
            .args(["-p", &folder.path().display().to_string(), "-e", &path("errors"), "-c"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install Debian's `nginx`, or leave the test out by its name");
        let begin = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address, _folder: folder }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Debian puts it where only administrators look.
fn program() -> PathBuf {
    let administrators = PathBuf::from("/usr/sbin/nginx");
    if administrators.exists() { administrators } else { "nginx".into() }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
