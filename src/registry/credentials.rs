//! Credentials as `docker login`, `podman login` and `skopeo login` leave them, and the helpers that they name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::error::tame;
use super::retry::now;
use super::{RegistryError, Repository};
use crate::process::ChildGroup;

/// How Docker calls its own registry.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";
const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
const POLL: Duration = Duration::from_millis(10);
/// How long to wait for the output of a helper that has ended: something it left behind may hold it open.
const DRAIN: Duration = Duration::from_secs(2);

/// Where credentials come from. The default has none.
#[derive(Clone, Debug)]
pub struct CredentialSource {
    /// Docker's and Podman's files, the first that knows a registry counts. Those that don't exist are left out.
    pub files: Vec<PathBuf>,
    /// Folders of credential helpers (`docker-credential-NAME`), as `PATH` has them.
    pub helper_folders: Vec<PathBuf>,
    /// How long a helper may take.
    pub helper_limit: Duration,
}

impl Default for CredentialSource {
    fn default() -> Self {
        Self { files: Vec::new(), helper_folders: Vec::new(), helper_limit: Duration::from_secs(60) }
    }
}

impl CredentialSource {
    /// Returns where Docker and Podman keep credentials, by an environment: `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG`, `HOME`,
    /// `XDG_RUNTIME_DIR`, `XDG_CONFIG_HOME`, `PATH`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let below = |folder: Option<PathBuf>, file: &str| folder.map(|folder| folder.join(file));
        let docker = path("DOCKER_CONFIG").or_else(|| below(home.clone(), ".docker"));
        let config = path("XDG_CONFIG_HOME").or_else(|| below(home, ".config"));
        let files = [
            path("REGISTRY_AUTH_FILE"),
            below(docker, "config.json"),
            below(path("XDG_RUNTIME_DIR"), "containers/auth.json"),
            below(config, "containers/auth.json"),
        ];
        let folders = variable("PATH").unwrap_or_default();
        Self {
            files: files.into_iter().flatten().collect(),
            helper_folders: std::env::split_paths(&folders).collect(),
            ..Self::default()
        }
    }
}

/// Credentials. They have no `Debug` that shows them.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Basic { user: String, password: String },
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::IdentityToken(_) => "IdentityToken",
        })
    }
}

/// What was found for a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) credential: Option<Credential>,
    /// Where the credential is from.
    pub(super) origin: String,
    /// What was wrong with a helper.
    pub(super) problem: Option<String>,
}

/// Docker's `config.json`, Podman's `auth.json`.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Option<Auth>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl CredentialSource {
    /// Looks for the credentials of a repository.
    ///
    /// # Errors
    /// A file can't be read or isn't what it should be; cancelled. Of a helper that fails it is told in what is returned.
    pub(super) fn find(
        &self,
        repository: &Repository,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Found, RegistryError> {
        let mut problem = None;
        for path in &self.files {
            let Some(file) = read(path)? else { continue };
            if let Some(name) = file.helper(repository.host()) {
                let origin = format!("docker-credential-{name}, which {} names", path.display());
                match self.ask_helper(name, &server_of(repository.host()), cancelled) {
                    Ok(Some(credential)) => {
                        return Ok(Found { credential: Some(credential), origin, problem: None });
                    }
                    Ok(None) => {}
                    Err(_) if cancelled() => {
                        return Err(RegistryError::Cancelled { host: repository.host().into() });
                    }
                    Err(error) => problem = problem.or(Some(format!("{origin}: {error}"))),
                }
            }
            if let Some(credential) = file
                .entry(repository)
                .map(Auth::credential)
                .transpose()
                .map_err(|problem| RegistryError::Credentials { file: path.clone(), problem })?
                .flatten()
            {
                let origin = path.display().to_string();
                return Ok(Found { credential: Some(credential), origin, problem: None });
            }
        }
        Ok(Found { credential: None, origin: String::new(), problem })
    }

    /// Runs `docker-credential-NAME get`. Returns `None` if it knows nothing of the server.
    fn ask_helper(
        &self,
        name: &str,
        server: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Credential>, io::Error> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(io::Error::other("its name has characters that no program's name has"));
        }
        let program = format!("docker-credential-{name}");
        let found =
            self.helper_folders.iter().map(|folder| folder.join(&program)).find(|path| path.is_file());
        let Some(path) = found else { return Err(io::Error::other("there is no such program in PATH")) };
        #[expect(clippy::disallowed_methods, reason = "it is started as the leader of a group below")]
        let mut command = Command::new(path);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut group = ChildGroup::spawn(command)?;
        let (mut input, output) = (group.take_stdin()?, group.take_stdout()?);
        // A helper that doesn't read its input ends with an error of its own.
        let _ = input.write_all(server.as_bytes());
        drop(input);
        let (sender, answer) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("credential-helper".into()).spawn(move || {
            let mut bytes = Vec::new();
            let _ = output.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
        })?;
        let begin = now();
        while !group.has_ended() {
            if cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if now() - begin >= self.helper_limit {
                return Err(io::Error::other(format!(
                    "it did not answer in {} s",
                    self.helper_limit.as_secs_f64()
                )));
            }
            std::thread::sleep(POLL);
        }
        let status = group.wait()?;
        let answer = answer.recv_timeout(DRAIN).map_err(|_| io::Error::other("its output has no end"))?;
        if !status.success() {
            // Helpers say on standard output that they know nothing, and fail.
            let said = tame(&String::from_utf8_lossy(&answer));
            let knows_nothing = said.to_ascii_lowercase().contains("credentials not found");
            return if knows_nothing {
                Ok(None)
            } else {
                Err(io::Error::other(format!("it failed: {said}")))
            };
        }
        let HelperAnswer { user, secret } =
            serde_json::from_slice(&answer).map_err(|_| io::Error::other("its answer is not a helper's"))?;
        Ok(match (user.as_str(), secret.is_empty()) {
            (_, true) => None,
            (TOKEN_USER, _) => Some(Credential::IdentityToken(secret)),
            _ => Some(Credential::Basic { user, password: secret }),
        })
    }
}

impl File {
    /// Returns the helper for a host: its own, else the one for all.
    fn helper(&self, host: &str) -> Option<&str> {
        let own = self.helpers.iter().find(|(key, _)| server_name(key) == server_name(&server_of(host)));
        own.map(|(_, name)| name).or(self.store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Returns what is there for a repository: Podman may name parts of its path, and the longest counts.
    fn entry(&self, repository: &Repository) -> Option<&Auth> {
        let server = server_name(&server_of(repository.host()));
        let mut name = format!("{server}/{}", repository.name());
        loop {
            let entry = self.auths.iter().find(|(key, auth)| server_name(key) == name && auth.is_some());
            if let Some((_, auth)) = entry {
                return auth.as_ref();
            }
            name.truncate(name.rfind('/')?);
        }
    }
}

impl Auth {
    /// Returns its credential; entries of helpers have none. The error says what is wrong without what it is.
    fn credential(&self) -> Result<Option<Credential>, String> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = some(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(auth) = some(&self.auth) {
            let wrong = || "an `auth` is not base64 of USER:PASSWORD: log in again".to_owned();
            let auth = auth.trim();
            let bytes =
                STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).map_err(|_| wrong())?;
            let pair = String::from_utf8(bytes).map_err(|_| wrong())?;
            let (user, password) = pair.split_once(':').ok_or_else(wrong)?;
            // Docker pads passwords with zeros.
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credential::Basic { user: user.into(), password: password.into() }));
        }
        Ok(some(&self.username)
            .zip(some(&self.password))
            .map(|(user, password)| Credential::Basic { user, password }))
    }
}

/// Returns the value of a header with a user's password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Returns how files and helpers call a host.
fn server_of(host: &str) -> String {
    if host == "docker.io" { DOCKER_HUB_SERVER.into() } else { host.into() }
}

/// Returns a key of a file without what Docker has put around hosts over the years.
fn server_name(key: &str) -> String {
    let name = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let name = name.trim_end_matches('/');
    let name = name.strip_suffix("/v1").or(name.strip_suffix("/v2")).unwrap_or(name);
    if name == "docker.io" { "index.docker.io".into() } else { name.into() }
}

fn read(path: &Path) -> Result<Option<File>, RegistryError> {
    let failed = |problem: String| RegistryError::Credentials { file: path.into(), problem };
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(format!("it cannot be opened ({})", error.kind()))),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(format!("it cannot be read ({})", error.kind())))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    // What serde says of a wrong value quotes it.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let what = if error.is_data() { "not what Docker and Podman write" } else { "not JSON" };
        failed(format!("it is {what} (line {}, column {})", error.line(), error.column()))
    })
}
