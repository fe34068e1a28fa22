//! A folder that this machine and the nodes of a fleet see.
//!
//! ```text
//! <shared>/exchange-1/
//!   requests/<id>/      request.json  graph/…  claim.json  events.jsonl  model.plan  result.json
//!   batches/<name>.json which requests a job of the engine works on
//!   logs/               what jobs print
//!   new/                requests in the making
//! ```
//!
//! A request appears whole, by a rename. Who works on it made its `claim.json`; once `result.json` is there, it is done. So a result
//! outlives whoever asked for it, and a request that two would work on is worked on by one.

use std::io::{self, BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nimctl_backend_kit::atomic_file;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Batch, Claim, Exchange, ExchangeError, Look, Taken};
use crate::digest::Sha256;
use crate::files::work_folder::{WorkFolder, sweep};
use crate::fleet::exchange::{REQUEST_SCHEMA, RESULT_SCHEMA, RemoteRequest, RemoteResult};
use crate::stored_format;
use crate::worker::protocol::Event;

/// The folder of this version of the layout.
const FOLDER: &str = "exchange-1";
const REQUEST: &str = "request.json";
const RESULT: &str = "result.json";
const CLAIM: &str = "claim.json";
const EVENTS: &str = "events.jsonl";
const NEW_PREFIX: &str = "request-";
/// How often results are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The folder.
#[derive(Clone, Debug)]
pub struct SharedFolder {
    root: PathBuf,
}

impl SharedFolder {
    /// Opens the exchange in a shared folder, and makes what is missing of it.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub fn open(shared: &Path) -> Result<Self, ExchangeError> {
        let exchange = Self::at(shared);
        for folder in ["requests", "batches", "logs", "new"] {
            fs_err::create_dir_all(exchange.root.join(folder))
                .map_err(exchange.failed("making its folders"))?;
        }
        sweep(&exchange.root.join("new"), NEW_PREFIX);
        Ok(exchange)
    }

    /// Returns whether somebody made an exchange in a shared folder.
    pub fn is_in(shared: &Path) -> bool {
        shared.join(FOLDER).is_dir()
    }

    /// Takes the exchange that somebody else made in a shared folder.
    pub fn at(shared: &Path) -> Self {
        Self { root: shared.join(FOLDER) }
    }

    /// Returns the folder of a request.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.root.join("requests").join(id)
    }

    /// Returns the folder of the jobs' logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Returns the end of what a task of a job printed.
    pub fn log_tail(&self, task: &str) -> String {
        const BYTES: u64 = 2000;
        let read = || -> io::Result<String> {
            let mut file = fs_err::File::open(self.logs().join(format!("{task}.log")))?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(BYTES)))?;
            let mut bytes = Vec::new();
            file.take(BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_default()
    }

    /// Removes what the tasks of a job printed, as far as that goes.
    pub fn remove_logs(&self, job: &str) {
        let Ok(entries) = fs_err::read_dir(self.logs()) else { return };
        let of_job = format!("{job}_");
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&of_job)) {
                let _ = fs_err::remove_file(path);
            }
        }
    }

    fn batch_path(&self, name: &str) -> PathBuf {
        self.root.join("batches").join(format!("{name}.json"))
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> ExchangeError + use<> {
        let folder = self.root.clone();
        move |source| ExchangeError::Io { folder: folder.clone(), doing, source }
    }
}

impl Exchange for SharedFolder {
    fn pace(&self) -> Duration {
        LOOK
    }

    fn look(&self, ids: &[&str]) -> Result<Vec<Result<Look, ExchangeError>>, ExchangeError> {
        Ok(ids.iter().map(|id| self.look_at(id)).collect())
    }

    fn look_at(&self, id: &str) -> Result<Look, ExchangeError> {
        let failed = || self.failed("reading a request");
        let folder = self.folder(id);
        let result = folder.join(RESULT);
        if !folder.join(REQUEST).is_file() {
            return Ok(Look::Absent);
        }
        if let Some(bytes) = read_if_there(&result).map_err(failed())? {
            let result = stored_format::from_json(&bytes, RESULT_SCHEMA, result.display())?;
            return Ok(Look::Done(Box::new(result)));
        }
        if let Some(bytes) = read_if_there(&folder.join(CLAIM)).map_err(failed())? {
            // A claim in the making is empty.
            let claim =
                serde_json::from_slice(&bytes).unwrap_or(Claim { task: String::new(), node: String::new() });
            return Ok(Look::Claimed(claim));
        }
        Ok(Look::Waiting)
    }

    fn fetch(&self, id: &str, file: &str, _: (Sha256, u64), to: &Path) -> Result<(), ExchangeError> {
        let mut from =
            fs_err::File::open(self.folder(id).join(file)).map_err(self.failed("reading a plan"))?;
        let mut copy = || io::copy(&mut from, &mut fs_err::File::create_new(to)?);
        copy().map(drop).map_err(|source| ExchangeError::Here { doing: "cannot save a plan", source })
    }

    fn take(&self, id: &str) -> Result<Taken, ExchangeError> {
        let folder = self.folder(id);
        let path = folder.join(REQUEST);
        let bytes = fs_err::read(&path).map_err(self.failed("reading a request"))?;
        let request = stored_format::from_json(&bytes, REQUEST_SCHEMA, path.display())?;
        Ok(Taken { request, folder, _copy: None })
    }

    fn stage(&self) -> Result<WorkFolder, ExchangeError> {
        WorkFolder::new_in(&self.root.join("new"), NEW_PREFIX).map_err(self.failed("making a request"))
    }

    fn put(&self, id: &str, staged: &WorkFolder, request: &RemoteRequest) -> Result<(), ExchangeError> {
        let failed = self.failed("writing a request");
        let write = || {
            let content = staged.path().join("content");
            fs_err::create_dir_all(&content)?;
            write_json(&content.join(REQUEST), request)?;
            atomic_file::sync_folder(&content)?;
            match fs_err::rename(&content, self.folder(id)) {
                Err(_) if self.folder(id).join(REQUEST).is_file() => {
                    // Somebody asked for the same before, and may have given it another time limit.
                    match self.look_at(id).map_err(io::Error::other)? {
                        Look::Waiting => write_json(&self.folder(id).join(REQUEST), request),
                        Look::Absent | Look::Claimed(_) | Look::Done(_) => Ok(()),
                    }
                }
                Err(_) => {
                    // What is left of one whose removal was interrupted.
                    self.remove(id).map_err(io::Error::other)?;
                    fs_err::rename(&content, self.folder(id))
                }
                Ok(()) => Ok(()),
            }
        };
        write().map_err(failed)
    }

    fn told(&self, id: &str, offset: &mut u64) -> Option<Vec<Event>> {
        let read = || -> io::Result<(Vec<Event>, u64)> {
            let mut file = fs_err::File::open(self.folder(id).join(EVENTS))?;
            file.seek(SeekFrom::Start(*offset))?;
            let (mut events, mut end) = (Vec::new(), *offset);
            let mut reader = io::BufReader::new(file);
            let mut line = String::new();
            while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
                end += line.len() as u64;
                events.extend(serde_json::from_str(&line));
                line.clear();
            }
            Ok((events, end))
        };
        let Ok((events, end)) = read() else { return Some(Vec::new()) };
        *offset = end;
        Some(events)
    }

    fn unclaim(&self, id: &str, of: &Claim) -> Result<(), ExchangeError> {
        if !matches!(self.look_at(id)?, Look::Claimed(claim) if claim == *of) {
            return Ok(());
        }
        remove_if_there(&self.folder(id).join(CLAIM)).map_err(self.failed("releasing a request"))
    }

    fn remove(&self, id: &str) -> Result<(), ExchangeError> {
        let remove = || {
            // Under another name first: it goes as a whole, whatever happens meanwhile.
            let aside = WorkFolder::new_in(&self.root.join("new"), NEW_PREFIX)?;
            match fs_err::rename(self.folder(id), aside.path().join("removed")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        remove().map_err(self.failed("removing a request"))
    }

    fn put_batch(&self, name: &str, batch: &Batch) -> Result<(), ExchangeError> {
        write_json(&self.batch_path(name), batch).map_err(self.failed("writing a batch"))
    }

    fn batch(&self, name: &str) -> Result<Batch, ExchangeError> {
        read_json(&self.batch_path(name)).map_err(self.failed("reading a batch"))
    }

    fn batches(&self) -> Result<Vec<(String, Batch)>, ExchangeError> {
        let failed = || self.failed("listing batches");
        let mut batches = Vec::new();
        for entry in fs_err::read_dir(self.root.join("batches")).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            if let (Some(name), Ok(batch)) = (name, read_json(&path)) {
                batches.push((name.to_owned(), batch));
            }
        }
        batches.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(batches)
    }

    fn remove_batch(&self, name: &str) -> Result<(), ExchangeError> {
        remove_if_there(&self.batch_path(name)).map_err(self.failed("removing a batch"))
    }

    fn claim(&self, id: &str, claim: &Claim) -> Result<bool, ExchangeError> {
        let failed = || self.failed("claiming a request");
        if matches!(self.look_at(id)?, Look::Done(_) | Look::Absent) {
            return Ok(false);
        }
        let path = self.folder(id).join(CLAIM);
        match fs_err::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                let bytes = serde_json::to_vec(claim).map_err(io::Error::from).map_err(failed())?;
                file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed())?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_own = matches!(self.look_at(id)?, Look::Claimed(other) if other.task == claim.task);
                Ok(is_own)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed()(error)),
        }
    }

    fn tell(&self, id: &str, event: &Event) -> Result<(), ExchangeError> {
        let write = || {
            let mut line = serde_json::to_vec(event)?;
            line.push(b'\n');
            let path = self.folder(id).join(EVENTS);
            fs_err::OpenOptions::new().append(true).create(true).open(path)?.write_all(&line)
        };
        write().map_err(self.failed("telling what happens to a request"))
    }

    fn finish(&self, id: &str, result: &RemoteResult, _plan: Option<&Path>) -> Result<(), ExchangeError> {
        if self.look_at(id)? == Look::Absent {
            return Ok(());
        }
        write_json(&self.folder(id).join(RESULT), result).map_err(self.failed("writing a result"))
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    atomic_file::write(path, &serde_json::to_vec_pretty(value)?)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs_err::read(path)?)?)
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs_err::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::exchange::{FailureKind, Node, Outcome, What};

    fn request() -> RemoteRequest {
        RemoteRequest {
            schema: REQUEST_SCHEMA.into(),
            what: What::Describe { backends: vec!["fake".into()] },
        }
    }

    fn claim(task: &str) -> Claim {
        Claim { task: task.into(), node: "n1".into() }
    }

    #[test]
    fn a_request_is_claimed_once_and_its_result_stays() {
        let shared = tempfile::tempdir().unwrap();
        let exchange = SharedFolder::open(shared.path()).unwrap();
        assert_eq!(exchange.look_at("a").unwrap(), Look::Absent);
        assert!(!exchange.claim("a", &claim("1_1")).unwrap());
        let staged = exchange.stage().unwrap();
        exchange.put("a", &staged, &request()).unwrap();
        drop(staged);
        assert_eq!(exchange.look_at("a").unwrap(), Look::Waiting);
        assert_eq!(exchange.take("a").unwrap().request, request());
        assert!(exchange.claim("a", &claim("1_1")).unwrap());
        assert!(!exchange.claim("a", &claim("1_2")).unwrap(), "another task");
        assert!(exchange.claim("a", &claim("1_1")).unwrap(), "the same task, requeued");
        assert_eq!(exchange.look_at("a").unwrap(), Look::Claimed(claim("1_1")));
        exchange.unclaim("a", &claim("2_1")).unwrap();
        assert_eq!(exchange.look_at("a").unwrap(), Look::Claimed(claim("1_1")), "somebody else's");
        exchange.unclaim("a", &claim("1_1")).unwrap();
        assert!(exchange.claim("a", &claim("1_2")).unwrap());
        let outcome = Outcome::Failed { kind: FailureKind::Input, message: "no".into() };
        let node = Node { name: "n1".into(), gpus: Vec::new() };
        let result = RemoteResult { schema: RESULT_SCHEMA.into(), node, outcome };
        exchange.finish("a", &result, None).unwrap();
        // Asked again, it is answered already.
        exchange.put("a", &exchange.stage().unwrap(), &request()).unwrap();
        assert_eq!(exchange.look_at("a").unwrap(), Look::Done(Box::new(result)));
        exchange.remove("a").unwrap();
        assert_eq!(exchange.look_at("a").unwrap(), Look::Absent);
    }

    #[test]
    fn golden_requests_and_results_are_read_and_written_as_they_were() {
        const GOLDEN_REQUEST: &[u8] = include_bytes!("../../tests/fixtures/formats/fleet-request.json");
        const GOLDEN_RESULT: &[u8] = include_bytes!("../../tests/fixtures/formats/fleet-result.json");
        let shared = tempfile::tempdir().unwrap();
        let exchange = SharedFolder::open(shared.path()).unwrap();
        exchange.put("a", &exchange.stage().unwrap(), &request()).unwrap();
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        fs_err::write(exchange.folder("a").join(REQUEST), GOLDEN_REQUEST).unwrap();
        let request = exchange.take("a").unwrap().request;
        assert_eq!(value(&serde_json::to_vec(&request).unwrap()), value(GOLDEN_REQUEST));
        fs_err::write(exchange.folder("a").join(RESULT), GOLDEN_RESULT).unwrap();
        let Look::Done(result) = exchange.look_at("a").unwrap() else { panic!("it has a result") };
        assert_eq!(value(&serde_json::to_vec(&result).unwrap()), value(GOLDEN_RESULT));
        let newer = String::from_utf8_lossy(GOLDEN_RESULT).replacen("result/1", "result/2", 1);
        fs_err::write(exchange.folder("a").join(RESULT), newer).unwrap();
        let error = exchange.look_at("a").unwrap_err().to_string();
        assert!(error.contains("written by a newer nimctl"), "{error}");
    }

    #[test]
    fn what_a_late_process_or_an_interrupted_removal_leaves_is_no_answer() {
        let shared = tempfile::tempdir().unwrap();
        let exchange = SharedFolder::open(shared.path()).unwrap();
        exchange.put("a", &exchange.stage().unwrap(), &request()).unwrap();
        exchange.remove("a").unwrap();
        let outcome = Outcome::Failed { kind: FailureKind::Unavailable, message: "too late".into() };
        let node = Node { name: "n1".into(), gpus: Vec::new() };
        let result = RemoteResult { schema: RESULT_SCHEMA.into(), node, outcome };
        exchange.finish("a", &result, None).unwrap();
        assert!(!exchange.folder("a").exists());
        write_json(&exchange.folder("a").join(RESULT), &result).unwrap();
        assert_eq!(exchange.look_at("a").unwrap(), Look::Absent);
        exchange.put("a", &exchange.stage().unwrap(), &request()).unwrap();
        assert_eq!(exchange.look_at("a").unwrap(), Look::Waiting);
    }

    #[test]
    fn events_are_told_once_and_whole() {
        let shared = tempfile::tempdir().unwrap();
        let exchange = SharedFolder::open(shared.path()).unwrap();
        exchange.put("a", &exchange.stage().unwrap(), &request()).unwrap();
        let warning = |text: &str| Event::Warning(crate::worker::protocol::Warning { message: text.into() });
        let mut offset = 0;
        assert!(exchange.told("a", &mut offset).unwrap().is_empty());
        exchange.tell("a", &warning("one")).unwrap();
        exchange.tell("a", &warning("two")).unwrap();
        assert_eq!(exchange.told("a", &mut offset).unwrap(), [warning("one"), warning("two")]);
        let path = exchange.folder("a").join(EVENTS);
        fs_err::OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"warn").unwrap();
        assert!(exchange.told("a", &mut offset).unwrap().is_empty());
    }
}
