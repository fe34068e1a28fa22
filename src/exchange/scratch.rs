//! A repository of a registry, for machines that share no folder.
//!
//! | tag | artifact |
//! | --- | --- |
//! | `request-<id>` | config: the request; layers: the files that it names |
//! | `result-<id>` | config: what came of it; layer: the plan |
//! | `batch-<name>` | config: which requests a job of the engine works on |
//!
//! A blob that the repository has is not sent again: a graph that several requests name travels once. A registry cannot say who was
//! first, so nothing is claimed: the engine gives each request to one task, and of two results the later one stands; both are right. What is
//! removed is deleted, and where a registry doesn't delete, an empty artifact takes its tag.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Batch, Claim, Exchange, ExchangeError, Look, Taken, is_name};
use crate::digest::Sha256;
use crate::files::work_folder::{WorkFolder, sweep};
use crate::fleet::exchange::{Outcome, REQUEST_SCHEMA, RESULT_SCHEMA, RemoteRequest, RemoteResult, What};
use crate::oci::{Descriptor, EMPTY, EMPTY_TYPE, FILE_TYPE, ImageManifest, MANIFEST_TYPE, TITLE};
use crate::portable_path;
use crate::registry::{
    Blob, Client, CredentialSource, Limits, Options, PlainHttp, ReadSeek, RegistryError, Repository, Watch,
};
use crate::stored_format;
use crate::worker::protocol::Event;

/// What a request is.
const REQUEST: Kind = Kind {
    tag: "request-",
    artifact: "application/vnd.nimctl.fleet-request.v1",
    config: "application/vnd.nimctl.fleet-request.v1+json",
};
/// What a result is.
const RESULT: Kind = Kind {
    tag: "result-",
    artifact: "application/vnd.nimctl.fleet-result.v1",
    config: "application/vnd.nimctl.fleet-result.v1+json",
};
/// What a batch is.
const BATCH: Kind = Kind {
    tag: "batch-",
    artifact: "application/vnd.nimctl.fleet-batch.v1",
    config: "application/vnd.nimctl.fleet-batch.v1+json",
};
/// The artifact type of what was removed from a registry that doesn't delete.
const REMOVED_ARTIFACT: &str = "application/vnd.nimctl.fleet-removed.v1";
/// The annotation that makes the manifests of two requests differ: what is deleted by its digest is one of them.
const NAME: &str = "org.nimctl.fleet.name";
/// The folders of requests in the making, and of those that are being answered.
const PREFIX: &str = "fleet-";
/// How often results are looked for: one list of tags each time.
const LOOK: Duration = Duration::from_secs(1);
/// How long it is believed that a request is there whose tag is: a registry that doesn't delete keeps the tag.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long a build may take in all: each request has limits of its own.
const NO_LIMIT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long the removal of what an interrupted command put in may take.
const AFTER_CANCEL: Duration = Duration::from_secs(20);
/// A request, a result or a batch is no longer than this.
const MAX_CONFIG_BYTES: u64 = 64 << 20;

/// How often an artifact is put in whose blobs the registry doesn't see.
const ROUNDS: u32 = 5;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(300);

/// Held while the files of a request are sent: executors that share a repository don't send one graph twice.
static SENDING: Mutex<()> = Mutex::new(());

/// A kind of artifact.
struct Kind {
    tag: &'static str,
    artifact: &'static str,
    config: &'static str,
}

impl Kind {
    fn tag(&self, name: &str) -> String {
        format!("{}{name}", self.tag)
    }
}

/// The repository.
pub struct Scratch<'a> {
    client: Client<'a>,
    /// For small things once everything has been cancelled: what an interrupted command put in, it removes.
    late: OnceLock<Client<'static>>,
    watch: Watch<'a>,
    options: Options,
    repository: Repository,
    /// Where copies of files are.
    folder: PathBuf,
    /// Requests that were there when it was looked for them.
    there: Mutex<BTreeMap<String, Instant>>,
}

impl<'a> Scratch<'a> {
    /// Takes a repository as an exchange; nothing is sent yet. Copies of files are below `folder`, which must exist.
    pub fn new(repository: Repository, options: Options, watch: Watch<'a>, folder: PathBuf) -> Self {
        sweep(&folder, PREFIX);
        let client = Client::new(options.clone(), watch);
        Self { client, late: OnceLock::new(), watch, options, repository, folder, there: Mutex::default() }
    }

    /// Returns how the registry of an exchange is reached.
    pub fn options(plain_http: bool, credentials: CredentialSource) -> Options {
        Options {
            plain_http: if plain_http { PlainHttp::All } else { PlainHttp::Loopback },
            limits: Limits { total: NO_LIMIT, ..Limits::default() },
            credentials,
            ..Options::default()
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(RegistryError) -> ExchangeError + use<> {
        let repository = self.repository.to_string();
        move |source| ExchangeError::Registry { repository: repository.clone(), doing, source }
    }

    /// Returns the client for small things.
    fn small(&self) -> &Client<'_> {
        if !(self.watch.cancelled)() {
            return &self.client;
        }
        self.late.get_or_init(|| {
            let limits = Limits { total: AFTER_CANCEL, retries: 1, ..self.options.limits };
            let watch = Watch { cancelled: &|| false, notice: &|_| () };
            Client::new(Options { limits, ..self.options.clone() }, watch)
        })
    }

    fn there(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_folder(&self) -> Result<WorkFolder, ExchangeError> {
        let made = WorkFolder::new_in(&self.folder, PREFIX);
        made.map_err(|source| ExchangeError::Here { doing: "cannot make a folder for a request", source })
    }

    /// Returns the artifact under a tag, unless it was removed.
    fn artifact(&self, tag: &str) -> Result<Option<ImageManifest>, ExchangeError> {
        let failed = self.failed("reading from it");
        let reference =
            self.repository.with_tag(tag).map_err(|error| failed(RegistryError::Reference(error)))?;
        let found = match self.small().get_manifest(&reference) {
            Ok(found) => found,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let manifest = ImageManifest::parse(&found.bytes, &reference.to_string())?;
        let is_removed = manifest.artifact_type.as_deref() == Some(REMOVED_ARTIFACT);
        Ok((!is_removed).then_some(manifest))
    }

    fn config(&self, manifest: &ImageManifest) -> Result<Vec<u8>, ExchangeError> {
        let Descriptor { digest, size, .. } = &manifest.config;
        let failed = self.failed("reading from it");
        if *size > MAX_CONFIG_BYTES {
            let what = format!("blob {digest} of {}", self.repository);
            return Err(failed(RegistryError::TooLarge { what, limit_bytes: MAX_CONFIG_BYTES }));
        }
        let blob = Blob { digest: *digest, size_bytes: *size };
        let mut bytes = Vec::new();
        self.small().get_blob(&self.repository, blob, None, &mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Puts an artifact in, its config and what else it has first; files are paths and where they are.
    fn put_artifact(
        &self,
        kind: &Kind,
        name: &str,
        document: &impl Serialize,
        files: &[(String, Descriptor, PathBuf)],
    ) -> Result<(), ExchangeError> {
        let failed = self.failed("writing to it");
        let here = |source| ExchangeError::Here { doing: "cannot read a file of a request", source };
        let put = |descriptor: &Descriptor, source: &mut dyn ReadSeek| {
            let blob = Blob { digest: descriptor.digest, size_bytes: descriptor.size };
            self.client.put_blob(&self.repository, blob, source, None).map(drop).map_err(&failed)
        };
        let bytes = serde_json::to_vec(document).map_err(|error| here(error.into()))?;
        let config = Descriptor::of(kind.config, &bytes);
        let layers = files.iter().map(|(path, descriptor, _)| descriptor.clone().with(TITLE, path)).collect();
        let mut manifest = ImageManifest::new(kind.artifact, config.clone(), layers);
        manifest.annotations.insert(NAME.into(), name.into());
        let manifest = manifest.to_json();
        let reference = self
            .repository
            .with_tag(&kind.tag(name))
            .map_err(|error| failed(RegistryError::Reference(error)))?;
        let mut rounds = 0..ROUNDS;
        loop {
            rounds.next();
            let sending = SENDING.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, descriptor, path) in files {
                put(descriptor, &mut fs_err::File::open(path).map_err(here)?)?;
            }
            drop(sending);
            put(&config, &mut io::Cursor::new(bytes.clone()))?;
            match self.client.put_manifest(&reference, MANIFEST_TYPE, &manifest) {
                // Docker's registry 2.8 doesn't see a blob for a moment that somebody else sends again.
                Err(error) if error.status() == Some(400) && !rounds.is_empty() => {
                    std::thread::sleep(BETWEEN_ROUNDS);
                }
                put => return put.map(drop).map_err(failed),
            }
        }
    }

    /// Removes what is under a tag; also when everything else has been cancelled.
    fn remove_artifact(&self, tag: &str) -> Result<(), ExchangeError> {
        let failed = self.failed("removing from it");
        let client = self.small();
        let reference =
            self.repository.with_tag(tag).map_err(|error| failed(RegistryError::Reference(error)))?;
        let found = match client.get_manifest(&reference) {
            Err(RegistryError::NotFound { .. }) => return Ok(()),
            found => found.map_err(&failed)?,
        };
        let removed = {
            let config = Descriptor::of(EMPTY_TYPE, EMPTY);
            ImageManifest::new(REMOVED_ARTIFACT, config, Vec::new()).to_json()
        };
        if found.bytes == removed
            || client.delete_manifest(&self.repository, found.digest).map_err(&failed)?
        {
            return Ok(());
        }
        let empty = Blob { digest: Sha256::of(EMPTY), size_bytes: EMPTY.len() as u64 };
        client.put_blob(&self.repository, empty, &mut io::Cursor::new(EMPTY), None).map_err(&failed)?;
        client.put_manifest(&reference, MANIFEST_TYPE, &removed).map(drop).map_err(failed)
    }

    fn document<T: DeserializeOwned>(
        &self,
        kind: &Kind,
        name: &str,
        read: impl Fn(&[u8], &str) -> Result<T, ExchangeError>,
    ) -> Result<Option<T>, ExchangeError> {
        let Some(manifest) = self.artifact(&kind.tag(name))? else { return Ok(None) };
        let what = format!("{}:{}", self.repository, kind.tag(name));
        Ok(Some(read(&self.config(&manifest)?, &what)?))
    }

    fn not_there(&self, kind: &Kind, name: &str) -> ExchangeError {
        ExchangeError::NotThere { repository: self.repository.to_string(), what: kind.tag(name) }
    }

    /// Returns how a request is, by the tags of the repository.
    fn look_by(&self, id: &str, tags: &BTreeSet<String>) -> Result<Look, ExchangeError> {
        if !tags.contains(&REQUEST.tag(id)) {
            self.there().remove(id);
            return Ok(Look::Absent);
        }
        let is_known = self.there().get(id).is_some_and(|at| at.elapsed() < BELIEVED);
        if !is_known && !self.is_there(id)? {
            return Ok(Look::Absent);
        }
        if tags.contains(&RESULT.tag(id)) { self.result(id) } else { Ok(Look::Waiting) }
    }

    /// Asks whether a request is there.
    fn is_there(&self, id: &str) -> Result<bool, ExchangeError> {
        let is_there = self.artifact(&REQUEST.tag(id))?.is_some();
        #[expect(clippy::disallowed_methods, reason = "what is known is believed for a while")]
        let now = Instant::now();
        match is_there {
            true => _ = self.there().insert(id.into(), now),
            false => _ = self.there().remove(id),
        }
        Ok(is_there)
    }

    /// Returns the result of a request that is there.
    fn result(&self, id: &str) -> Result<Look, ExchangeError> {
        let read = |bytes: &[u8], what: &str| Ok(stored_format::from_json(bytes, RESULT_SCHEMA, what)?);
        let result = self.document::<RemoteResult>(&RESULT, id, read)?;
        Ok(result.map_or(Look::Waiting, |result| Look::Done(Box::new(result))))
    }

    fn tags(&self) -> Result<BTreeSet<String>, ExchangeError> {
        let tags = self.small().tags(&self.repository).map_err(self.failed("listing its tags"))?;
        Ok(tags.into_iter().collect())
    }
}

impl Exchange for Scratch<'_> {
    fn pace(&self) -> Duration {
        LOOK
    }

    fn stage(&self) -> Result<WorkFolder, ExchangeError> {
        self.work_folder()
    }

    fn put(&self, id: &str, staged: &WorkFolder, request: &RemoteRequest) -> Result<(), ExchangeError> {
        match self.look_at(id)? {
            Look::Done(_) => return Ok(()),
            // Somebody asked for the same before, and may have given it another time limit.
            Look::Waiting | Look::Claimed(_) => {}
            // What somebody said too late of an earlier one is no answer to this one.
            Look::Absent => self.remove_artifact(&RESULT.tag(id))?,
        }
        let mut files = Vec::new();
        if let What::Build(build) = &request.what {
            for (path, digest) in &build.files {
                let file = staged.path().join("content").join(path);
                let here = |source| ExchangeError::Here { doing: "cannot read a file of a request", source };
                let size = fs_err::metadata(&file).map_err(here)?.len();
                files.push((path.clone(), Descriptor::new(FILE_TYPE, *digest, size), file));
            }
        }
        self.put_artifact(&REQUEST, id, request, &files)
    }

    fn look(&self, ids: &[&str]) -> Result<Vec<Result<Look, ExchangeError>>, ExchangeError> {
        let tags = self.tags()?;
        Ok(ids.iter().map(|id| self.look_by(id, &tags)).collect())
    }

    fn look_at(&self, id: &str) -> Result<Look, ExchangeError> {
        if self.is_there(id)? { self.result(id) } else { Ok(Look::Absent) }
    }

    fn told(&self, _id: &str, _offset: &mut u64) -> Option<Vec<Event>> {
        None
    }

    fn fetch(&self, _: &str, _: &str, (digest, size): (Sha256, u64), to: &Path) -> Result<(), ExchangeError> {
        // By its digest: a second task may have written another result meanwhile.
        self.download(&Descriptor::new(FILE_TYPE, digest, size), to)
    }

    fn unclaim(&self, _id: &str, _of: &Claim) -> Result<(), ExchangeError> {
        Ok(())
    }

    fn remove(&self, id: &str) -> Result<(), ExchangeError> {
        self.there().remove(id);
        // A result without its request is nothing.
        self.remove_artifact(&REQUEST.tag(id))?;
        self.remove_artifact(&RESULT.tag(id))
    }

    fn put_batch(&self, name: &str, batch: &Batch) -> Result<(), ExchangeError> {
        self.put_artifact(&BATCH, name, batch, &[])
    }

    fn batch(&self, name: &str) -> Result<Batch, ExchangeError> {
        self.document(&BATCH, name, batch_from)?.ok_or_else(|| self.not_there(&BATCH, name))
    }

    fn batches(&self) -> Result<Vec<(String, Batch)>, ExchangeError> {
        let mut batches = Vec::new();
        for tag in self.tags()? {
            // Jobs are named after it: nobody else's words get there.
            let Some(name) = tag.strip_prefix(BATCH.tag).filter(|name| is_name(name)) else { continue };
            match self.document(&BATCH, name, batch_from) {
                Ok(Some(batch)) => batches.push((name.to_owned(), batch)),
                Err(error) if !error.is_damage() => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(batches)
    }

    fn remove_batch(&self, name: &str) -> Result<(), ExchangeError> {
        self.remove_artifact(&BATCH.tag(name))
    }

    fn claim(&self, id: &str, _claim: &Claim) -> Result<bool, ExchangeError> {
        Ok(matches!(self.look_at(id)?, Look::Waiting))
    }

    fn take(&self, id: &str) -> Result<Taken, ExchangeError> {
        let manifest = self.artifact(&REQUEST.tag(id))?.ok_or_else(|| self.not_there(&REQUEST, id))?;
        let what = format!("{}:{}", self.repository, REQUEST.tag(id));
        let request = stored_format::from_json(&self.config(&manifest)?, REQUEST_SCHEMA, &what)?;
        let copy = self.work_folder()?;
        for layer in &manifest.layers {
            let here = |source| ExchangeError::Here { doing: "cannot save a file of a request", source };
            let path = layer.title().unwrap_or_default();
            portable_path::check(path).map_err(|error| {
                here(io::Error::new(io::ErrorKind::InvalidInput, format!("`{path}` {error}")))
            })?;
            let to = copy.path().join(path);
            fs_err::create_dir_all(to.parent().unwrap_or(copy.path())).map_err(here)?;
            self.download(layer, &to)?;
        }
        Ok(Taken { request, folder: copy.path().into(), _copy: Some(copy) })
    }

    fn tell(&self, _id: &str, _event: &Event) -> Result<(), ExchangeError> {
        Ok(())
    }

    fn finish(&self, id: &str, result: &RemoteResult, plan: Option<&Path>) -> Result<(), ExchangeError> {
        if !self.is_there(id)? {
            return Ok(());
        }
        let mut files = Vec::new();
        if let (Outcome::Built { file, plan: digest, answer, .. }, Some(path)) = (&result.outcome, plan) {
            let descriptor = Descriptor::new(FILE_TYPE, *digest, answer.plan_size_bytes);
            files.push((file.clone(), descriptor, path.to_owned()));
        }
        self.put_artifact(&RESULT, id, result, &files)?;
        // Sending a plan takes a while, in which somebody else's result may have been taken.
        if self.is_there(id)? { Ok(()) } else { self.remove_artifact(&RESULT.tag(id)) }
    }
}

impl Scratch<'_> {
    fn download(&self, layer: &Descriptor, to: &Path) -> Result<(), ExchangeError> {
        let here = |source| ExchangeError::Here { doing: "cannot save a file of the exchange", source };
        let mut file = fs_err::File::create_new(to).map_err(here)?;
        let blob = Blob { digest: layer.digest, size_bytes: layer.size };
        let fetched = self.client.get_blob(&self.repository, blob, None, &mut file);
        fetched.map(drop).map_err(self.failed("reading from it"))
    }
}

fn batch_from(bytes: &[u8], what: &str) -> Result<Batch, ExchangeError> {
    serde_json::from_slice(bytes)
        .map_err(|error| crate::oci::InvalidDocument { what: what.into(), problem: error.to_string() }.into())
}
