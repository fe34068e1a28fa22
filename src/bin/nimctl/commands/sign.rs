//! `nimctl sign`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::files::{secret, text};
use nimctl::ops::sign::{SignOptions, Signed, sign};
use nimctl::signing::{Certificate, Curve, KeyError, PrivateKey, Signer};
use nimctl::worker::host::Cancel;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::{counted, size};
use crate::{cli, environment};

/// How many threads read a model: more than that, disks do not gain from.
const MAX_THREADS: usize = 8;

pub(crate) fn run(arguments: &cli::Sign, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let cli::Sign { model, private_key, signature, ignore, allow_symlinks } = arguments;
    let Signing { key, certificates, files } = Signing::of(private_key)?;
    for path in ignore.iter().filter(|path| fs_err::symlink_metadata(path).is_err()) {
        output.warning(&format!("--ignore {}: there is no such file", path.display()));
    }
    let signed = sign(SignOptions {
        model,
        signature: signature.as_deref(),
        ignore,
        allow_symlinks: *allow_symlinks,
        key,
        certificates,
        key_files: &files,
        now_s: now_s(),
        threads: threads(),
        is_cancelled: &|| cancel.is_cancelled(),
    })?;
    let Signed { signature, model: name, digest, files, size_bytes, ignored, signer } = &signed;
    let mut text = String::new();
    let _ = writeln!(text, "signed {}: {}, {}", model.display(), counted(*files, "file"), size(*size_bytes));
    let _ = writeln!(text, "by {signer}");
    let _ = writeln!(text, "wrote {}", signature.display());
    let view = View {
        schema: "nimctl.signature/1",
        signature,
        model: name,
        digest,
        signed_by: signer.into(),
        files: *files,
        size_bytes: *size_bytes,
        ignored,
    };
    output.result(&text, &view);
    Ok(done())
}

/// What signs.
pub(super) struct Signing {
    pub(super) key: PrivateKey,
    /// The certificate of the key, and those that lead from it to a root.
    pub(super) certificates: Option<Vec<Certificate>>,
    /// The files that these were read from.
    pub(super) files: Vec<PathBuf>,
}

impl Signing {
    /// Reads what the arguments name.
    pub(super) fn of(arguments: &cli::PrivateKey) -> Result<Self, Failure> {
        let cli::PrivateKey { key, key_fd, key_env, password_env, certificate, chain } = arguments;
        leave_no_core();
        let key =
            private_key(key.as_deref(), key_fd.as_deref(), key_env.as_deref(), password_env.as_deref())?;
        let certificates = match certificate {
            Some(leaf) => Some(certificates([leaf].into_iter().chain(chain))?),
            None => None,
        };
        let files = arguments.key.iter().chain(certificate).chain(chain).cloned().collect();
        Ok(Self { key, certificates, files })
    }
}

/// `nimctl.signature/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    signature: &'a Path,
    model: &'a str,
    digest: &'a Sha256,
    signed_by: SignerView<'a>,
    files: usize,
    size_bytes: u64,
    ignored: &'a [String],
}

/// Who signed.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SignerView<'a> {
    Key { curve: Curve, hint: String },
    Certificate { subject: &'a str, fingerprint: &'a Sha256, root: &'a str },
}

impl<'a> From<&'a Signer> for SignerView<'a> {
    fn from(signer: &'a Signer) -> Self {
        match signer {
            Signer::Key(key) => Self::Key { curve: key.curve(), hint: key.hint().to_hex() },
            Signer::Certificate { subject, fingerprint, root } => {
                Self::Certificate { subject, fingerprint, root }
            }
        }
    }
}

/// Keeps the key out of core dumps, and other processes out of this one's memory. Where that can't be done, it goes on.
fn leave_no_core() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Reads the private key. No error has a part of it, also where it was given in the place of a name.
fn private_key(
    file: Option<&Path>,
    descriptor: Option<&str>,
    variable: Option<&str>,
    password: Option<&str>,
) -> Result<PrivateKey, Failure> {
    let wrong = |message: String| Failure::new(ErrorKind::Input, anyhow!(message));
    let (text, source) = match (file, descriptor, variable) {
        (Some(file), None, None) => {
            if file.to_string_lossy().contains("PRIVATE KEY") {
                return Err(wrong("--key takes the name of a file, and not the key itself".into()));
            }
            (read_secret(file)?, format!("the key in {}", file.display()))
        }
        (None, Some(number), None) => {
            let number: u32 = number
                .parse()
                .map_err(|_| wrong("--key-fd takes the number of an open file descriptor".into()))?;
            let file = PathBuf::from(format!("/dev/fd/{number}"));
            (read_secret(&file)?, format!("the key from file descriptor {number}"))
        }
        (None, None, Some(name)) => {
            (variable_of(name, "--key-env")?, format!("the key in the variable {name}"))
        }
        _ => return Err(wrong("name the private key with --key, --key-fd or --key-env".into())),
    };
    let password = password.map(|name| variable_of(name, "--password-env")).transpose()?;
    let key = PrivateKey::from_pem(&text, password.as_ref().map(|password| password.as_bytes()));
    key.map_err(|error| key_failure(&source, error))
}

/// Words what is wrong with a key.
pub(super) fn key_failure(source: &str, error: KeyError) -> Failure {
    let hint = error.hint();
    Failure::new(ErrorKind::Input, anyhow::Error::from(error).context(format!("{source} can't be used")))
        .hint(hint)
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    secret::read(path).map_err(|error| {
        Failure::new(ErrorKind::Input, anyhow::Error::from(error).context("cannot read the key"))
    })
}

/// Returns what a variable holds. A text that is no name, such as the secret itself, is not repeated.
fn variable_of(name: &str, option: &str) -> Result<Zeroizing<String>, Failure> {
    let wrong = |message: String| Failure::new(ErrorKind::Input, anyhow!(message));
    let is_name = name.len() <= 128
        && !name.starts_with(|character: char| character.is_ascii_digit())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    if name.is_empty() || !is_name {
        return Err(wrong(format!(
            "{option} takes the name of an environment variable, and not the secret itself"
        )));
    }
    // A password may look like a name.
    environment::secret(name).ok_or_else(|| {
        wrong(format!("the environment variable that {option} names is not set, or not UTF-8"))
    })
}

/// Reads certificates from PEM files, in their order.
pub(super) fn certificates<'a>(
    files: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<Vec<Certificate>, Failure> {
    let mut certificates = Vec::new();
    for file in files {
        let text = text::read(file).map_err(|error| {
            Failure::new(ErrorKind::Input, anyhow::Error::from(error).context("cannot read the certificate"))
        })?;
        let read = Certificate::all_from_pem(&text).map_err(|error| {
            let error = anyhow::Error::from(error).context(format!("cannot use {}", file.display()));
            Failure::new(ErrorKind::Input, error)
        })?;
        certificates.extend(read);
    }
    Ok(certificates)
}

/// Returns the time, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a certificate is valid at some time, which is now")]
pub(super) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns how many threads read a model.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}
