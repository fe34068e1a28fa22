//! Files of Hugging Face.

use std::path::{Path, PathBuf};

use super::UriError;
use crate::percent;
use crate::registry::{Secret, WebFile, web_address};

const ENDPOINT: &str = "https://huggingface.co";
const REVISION: &str = "main";
const TOKEN: &str = "HF_TOKEN";

/// Hugging Face, or a server that speaks like it.
#[derive(Clone, Debug)]
pub struct HuggingFace {
    endpoint: String,
    token: Option<Secret>,
}

impl Default for HuggingFace {
    fn default() -> Self {
        Self { endpoint: ENDPOINT.into(), token: None }
    }
}

impl HuggingFace {
    /// Returns what the environment says: `HF_ENDPOINT`, and `HF_TOKEN`, which the endpoint gets and no other host. Without that, the
    /// token is in the file `HF_TOKEN_PATH`, else `HF_HOME/token`, else `~/.cache/huggingface/token`, where Hugging Face's own
    /// program keeps it.
    pub(super) fn from_environment(variable: &impl Fn(&str) -> Option<String>) -> Self {
        let path = |name: &str| variable(name).map(PathBuf::from);
        let of_file = || {
            let cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
            let home = path("HF_HOME").or_else(|| Some(cache?.join("huggingface")));
            let file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")))?;
            let token = fs_err::read_to_string(&file).ok()?;
            Secret::bearer(token.trim(), &Path::display(&file).to_string())
        };
        let named = variable(TOKEN).and_then(|token| Secret::bearer(&token, TOKEN));
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()),
            token: named.or_else(of_file),
        }
    }

    /// Returns where a file is: `hf://OWNER/NAME[@REVISION]/PATH`, or as NIM writes it, `hf://OWNER/NAME[:REVISION]?file=PATH`.
    pub(super) fn locate(&self, uri: &str) -> Result<WebFile, UriError> {
        let invalid = || {
            UriError::invalid(
                uri,
                "expected hf://OWNER/NAME[@REVISION]/PATH or hf://OWNER/NAME[:REVISION]?file=PATH",
            )
        };
        let rest = uri.strip_prefix("hf://").ok_or_else(invalid)?;
        let (owner, name, revision, path) = parts(rest).ok_or_else(invalid)?;
        let is_name = |part: &str| {
            !part.is_empty()
                && part.bytes().any(|byte| byte != b'.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let revision =
            percent::decode(revision).filter(|revision| !revision.is_empty()).ok_or_else(invalid)?;
        let is_path = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !is_name(owner) || !is_name(name) || matches!(&*revision, "." | "..") || !is_path {
            return Err(invalid());
        }
        let address = format!(
            "{}/{owner}/{name}/resolve/{}/{}",
            self.endpoint.trim_end_matches('/'),
            percent::encode(&revision, ""),
            percent::encode(path, "/"),
        );
        let url = web_address(&address).map_err(|error| UriError::invalid(uri, error.to_string()))?;
        Ok(WebFile::new(url, self.token.clone()))
    }
}

/// Returns owner, name, revision and path.
fn parts(rest: &str) -> Option<(&str, &str, &str, &str)> {
    let (owner, after) = rest.split_once('/')?;
    if let Some((repository, path)) = after.split_once("?file=") {
        let (name, revision) = repository.split_once([':', '@']).unwrap_or((repository, REVISION));
        return Some((owner, name, revision, path));
    }
    let (repository, path) = after.split_once('/')?;
    let (name, revision) = repository.split_once(['@', ':']).unwrap_or((repository, REVISION));
    Some((owner, name, revision, path))
}
