//! A user with an empty home.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) struct User {
    pub(crate) home: tempfile::TempDir,
}

/// What a command said, for a snapshot.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) text: String,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    /// Returns a command in the user's home, with nothing in its environment but what it needs.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("COLUMNS", "100")
            .env("NIMCTL_DATA_DIR", self.path("data"))
            .env("NIMCTL_BACKENDS", fake_backends());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.said(&self.command(arguments).output().unwrap())
    }

    /// Turns an output into what can be compared: without paths of this machine, times, and process ids.
    pub(crate) fn said(&self, output: &Output) -> Said {
        let clean = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(&self.home.path().display().to_string(), "~");
            text.replace(&fake_backends().display().to_string(), "<fake>")
                .replace(env!("CARGO_MANIFEST_DIR"), "<repo>")
        };
        let (stdout, stderr) = (clean(&output.stdout), clean(&output.stderr));
        let mut text = String::new();
        let status = output.status.code().map_or_else(|| "killed".into(), |code| code.to_string());
        let _ = write!(text, "exit {status}\n--- stdout\n{stdout}--- stderr\n{stderr}");
        Said { code: output.status.code(), stdout, text }
    }
}

impl Said {
    /// Fails unless the exit code is this one and the text has all of these pieces.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, pieces: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for piece in pieces {
            assert!(self.text.contains(piece), "expected {piece:?} in\n{}", self.text);
        }
    }
}

pub(crate) fn fake_backends() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers")
}

/// A recipe with one graph at `graph.onnx` and the given profiles.
pub(crate) fn recipe(shapes: &str, profiles: &str) -> String {
    format!(
        "schema: nimctl.recipe/1\nmodel: {{ name: m, release: 1.0.0 }}\ngraphs:\n  main:\n    source: {{ path: graph.onnx }}\n    shapes:\n      {shapes}\nprofiles:\n{profiles}"
    )
}

pub(crate) const X_RANGE: &str = "x: { min: [1, 4], opt: [2, 4], max: [8, 4] }";
pub(crate) const GENERIC: &str = "  - { backend: onnxruntime, precisions: [fp32], targets: generic }\n";
pub(crate) const FAKE: &str =
    "  - { backend: fake, precisions: [fp16], targets: { compute_capabilities: [\"8.9\", \"9.0\"] } }\n";

/// A user with a small graph and a recipe of it.
pub(crate) fn user_with_graph(profiles: &str) -> User {
    let user = User::new();
    crate::graph::write(&user.path("graph.onnx"), crate::graph::Precision::Float32);
    user.write("r.yaml", &recipe(X_RANGE, profiles));
    user
}
