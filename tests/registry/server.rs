//! A registry in memory, with the faults that a test plays: one hook sees each request before its body is read, one sees
//! each answer before it is sent.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nimctl::digest::Sha256;
use serde_json::json;

/// What arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Set by a hook: after so many bytes of the body the connection is closed.
    pub(crate) cut_after: Option<usize>,
    /// Set by a hook: the answer, without a look at anything.
    pub(crate) answer: Option<Answer>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// After so many bytes of the body the connection is closed.
    pub(crate) cut_after: Option<usize>,
    pub(crate) bytes_per_s: Option<u64>,
    /// The connection stays open without an answer for so long, then closes.
    pub(crate) hang: Option<Duration>,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a header in place of one of the same name.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.to_string()));
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = json!({ "errors": [{ "code": code, "message": format!("the message of {code}") }] });
        Self::new(status).body(body.to_string().as_bytes())
    }
}

/// How clients have to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Login {
    #[default]
    Anonymous,
    Basic,
    /// With a token of `/token` on the server itself, for the password or for nobody in particular.
    Token {
        needs_password: bool,
    },
}

pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "hunter2:x";

#[derive(Default)]
pub(crate) struct State {
    /// By repository and digest.
    pub(crate) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    sessions: BTreeMap<String, Vec<u8>>,
    pub(crate) login: Login,
    /// Valid tokens, with their scopes.
    pub(crate) tokens: BTreeMap<String, String>,
    issued: usize,
    /// How many uploads were begun.
    opened: usize,
    pub(crate) has_referrers: bool,
    pub(crate) log: Vec<Request>,
    pub(crate) connections: usize,
}

type Before = Box<dyn FnMut(&mut Request) + Send>;
type After = Box<dyn FnMut(&Request, &mut Answer) + Send>;

struct Shared {
    address: String,
    state: Mutex<State>,
    before: Mutex<Before>,
    after: Mutex<After>,
}

/// A running registry. Its threads end with the test.
pub(crate) struct Server(Arc<Shared>);

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap().to_string(),
            state: Mutex::default(),
            before: Mutex::new(Box::new(|_| {})),
            after: Mutex::new(Box::new(|_, _| {})),
        });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), Arc::clone(&served));
                shared.state.lock().unwrap().connections += 1;
                std::thread::spawn(move || {
                    // A client that leaves is no fault of the test.
                    let _ = shared.serve(&stream);
                });
            }
        });
        Self(shared)
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    pub(crate) fn before(&self, hook: impl FnMut(&mut Request) + Send + 'static) {
        *self.0.before.lock().unwrap() = Box::new(hook);
    }

    pub(crate) fn after(&self, hook: impl FnMut(&Request, &mut Answer) + Send + 'static) {
        *self.0.after.lock().unwrap() = Box::new(hook);
    }

    /// Puts a blob into repository `a/b`.
    pub(crate) fn add_blob(&self, bytes: &[u8]) -> Sha256 {
        let digest = Sha256::of(bytes);
        self.state().blobs.insert(("a/b".into(), digest.to_string()), bytes.into());
        digest
    }

    /// Puts a manifest into repository `a/b` under a tag.
    pub(crate) fn add_manifest(&self, tag: &str, bytes: &[u8]) -> Sha256 {
        let digest = Sha256::of(bytes);
        let manifest = ("application/vnd.oci.image.manifest.v1+json".to_owned(), bytes.to_vec());
        let mut state = self.state();
        for name in [tag.to_owned(), digest.to_string()] {
            state.manifests.insert(("a/b".into(), name), manifest.clone());
        }
        digest
    }

    /// Returns `METHOD path` of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().log.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        // Head and body are two writes.
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream.try_clone()?;
        loop {
            let Some(mut request) = read_head(&mut reader)? else { return Ok(()) };
            self.before.lock().unwrap()(&mut request);
            let length: usize = request.header("content-length").unwrap_or("0").parse().unwrap();
            let wanted = request.cut_after.unwrap_or(length).min(length);
            let mut body = vec![0; wanted];
            reader.read_exact(&mut body)?;
            request.body = body;
            let mut answer = {
                let mut state = self.state.lock().unwrap();
                state.log.push(request.clone());
                match request.answer.clone() {
                    Some(answer) => answer,
                    None => state.answer(&request, &self.address),
                }
            };
            if request.cut_after.is_some() {
                return Ok(());
            }
            self.after.lock().unwrap()(&request, &mut answer);
            if let Some(hang) = answer.hang {
                std::thread::sleep(hang);
                return Ok(());
            }
            send(&mut stream, &request, &answer)?;
            if answer.cut_after.is_some() {
                return Ok(());
            }
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let url: reqwest::Url = format!("http://server{target}").parse().unwrap();
    let query = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    let mut request = Request { method, path: url.path().to_owned(), query, ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(request)) };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn send(stream: &mut TcpStream, request: &Request, answer: &Answer) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
    let has = |name: &str| answer.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    if !has("content-length") && !has("transfer-encoding") {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &answer.body[..answer.cut_after.unwrap_or(answer.body.len()).min(answer.body.len())];
    let Some(bytes_per_s) = answer.bytes_per_s else { return stream.write_all(body) };
    let step = (bytes_per_s / 100).max(1) as usize;
    for piece in body.chunks(step) {
        stream.write_all(piece)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl State {
    fn answer(&mut self, request: &Request, address: &str) -> Answer {
        if request.path == "/token" {
            return self.token(request);
        }
        let Some(rest) = request.path.strip_prefix("/v2/") else { return Answer::error(404, "NO_API") };
        let parts: Vec<&str> = rest.split('/').collect();
        let at = parts.iter().position(|part| ["blobs", "manifests", "tags", "referrers"].contains(part));
        let Some(at) = at else { return Answer::error(404, "NAME_UNKNOWN") };
        let name = parts[..at].join("/");
        if let Some(refusal) = self.refuse(request, &name, address) {
            return refusal;
        }
        match parts[at..] {
            ["blobs", "uploads", ref session @ ..] => self.upload(request, name, &session.join("/")),
            ["blobs", digest] => self.blob(request, name, digest),
            ["manifests", reference] => self.manifest(request, name, reference),
            ["tags", "list"] => self.tags(request, &name),
            ["referrers", digest] if self.has_referrers => self.referrers(&name, digest),
            _ => Answer::error(404, "UNSUPPORTED"),
        }
    }

    fn refuse(&self, request: &Request, name: &str, address: &str) -> Option<Answer> {
        let sent = request.header("authorization").unwrap_or_default();
        let challenge = match &self.login {
            Login::Anonymous => return None,
            Login::Basic if sent == basic() => return None,
            Login::Basic => "Basic realm=\"registry\"".to_owned(),
            Login::Token { .. } => {
                let action =
                    if ["GET", "HEAD"].contains(&request.method.as_str()) { "pull" } else { "pull,push" };
                let scope = format!("repository:{name}:{action}");
                let token = sent.strip_prefix("Bearer ").and_then(|token| self.tokens.get(token));
                let allowed = |granted: &String| {
                    granted.split(' ').any(|granted| granted == scope || granted == format!("{scope},push"))
                };
                if token.is_some_and(allowed) {
                    return None;
                }
                format!("Bearer realm=\"http://{address}/token\",service=\"test\",scope=\"{scope}\"")
            }
        };
        Some(Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge))
    }

    fn token(&mut self, request: &Request) -> Answer {
        let needs_password = self.login == Login::Token { needs_password: true };
        if needs_password && request.header("authorization") != Some(&basic()) {
            return Answer::new(401).body(b"{\"details\":\"incorrect username or password\"}");
        }
        self.issued += 1;
        let token = format!("secret-token-{}", self.issued);
        let scopes = request.query.iter().filter(|(key, _)| key == "scope").map(|(_, scope)| scope.as_str());
        self.tokens.insert(token.clone(), scopes.collect::<Vec<_>>().join(" "));
        Answer::new(200).body(json!({ "token": token, "expires_in": 300 }).to_string().as_bytes())
    }

    fn blob(&self, request: &Request, name: String, digest: &str) -> Answer {
        let Some(bytes) = self.blobs.get(&(name, digest.to_owned())) else {
            return Answer::error(404, "BLOB_UNKNOWN");
        };
        if request.method == "HEAD" {
            return Answer::new(200).header("Content-Length", bytes.len());
        }
        let Some(range) = request.header("range") else { return Answer::new(200).body(bytes) };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let last = last.parse().unwrap_or(usize::MAX).min(bytes.len().saturating_sub(1));
        if first >= bytes.len() {
            return Answer::new(416).header("Content-Range", format!("bytes */{}", bytes.len()));
        }
        Answer::new(206)
            .header("Content-Range", format!("bytes {first}-{last}/{}", bytes.len()))
            .body(&bytes[first..=last])
    }

    fn upload(&mut self, request: &Request, name: String, session: &str) -> Answer {
        if request.method == "POST" {
            if let (Some(digest), Some(from)) = (request.query("mount"), request.query("from"))
                && let Some(bytes) = self.blobs.get(&(from.to_owned(), digest.to_owned())).cloned()
            {
                self.blobs.insert((name, digest.to_owned()), bytes);
                return Answer::new(201);
            }
            // Uploads go on side by side, and end in any order: a name that was given is never given again.
            let session = format!("session-{}", self.opened);
            self.opened += 1;
            self.sessions.insert(session.clone(), Vec::new());
            return Answer::new(202)
                .header("Location", format!("/v2/{name}/blobs/uploads/{session}?state=0"));
        }
        let Some(got) = self.sessions.get_mut(session) else {
            return Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        if let Some((first, _)) = request.header("content-range").and_then(|range| range.split_once('-'))
            && first != got.len().to_string()
        {
            return Answer::new(416);
        }
        got.extend(&request.body);
        if request.method == "PUT" && request.cut_after.is_none() {
            let bytes = self.sessions.remove(session).unwrap();
            let digest = request.query("digest").unwrap().to_owned();
            if digest != Sha256::of(&bytes).to_string() {
                return Answer::error(400, "DIGEST_INVALID");
            }
            self.blobs.insert((name, digest.clone()), bytes);
            return Answer::new(201).header("Docker-Content-Digest", digest);
        }
        let (status, count) = (if request.method == "GET" { 204 } else { 202 }, got.len());
        Answer::new(status)
            .header("Location", format!("/v2/{name}/blobs/uploads/{session}?state={count}"))
            .header("Range", format!("0-{}", count.saturating_sub(1)))
    }

    fn manifest(&mut self, request: &Request, name: String, reference: &str) -> Answer {
        if request.method == "PUT" {
            let digest = Sha256::of(&request.body).to_string();
            let media_type = request.header("content-type").unwrap().to_owned();
            for key in [reference.to_owned(), digest.clone()] {
                self.manifests.insert((name.clone(), key), (media_type.clone(), request.body.clone()));
            }
            let subject: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let answer = Answer::new(201).header("Docker-Content-Digest", digest);
            return match subject["subject"]["digest"].as_str() {
                Some(subject) if self.has_referrers => answer.header("OCI-Subject", subject),
                _ => answer,
            };
        }
        let Some((media_type, bytes)) = self.manifests.get(&(name, reference.to_owned())) else {
            return Answer::error(404, "MANIFEST_UNKNOWN");
        };
        Answer::new(200)
            .header("Content-Type", media_type)
            .header("Docker-Content-Digest", Sha256::of(bytes))
            .body(bytes)
    }

    /// Two tags a page.
    fn tags(&self, request: &Request, name: &str) -> Answer {
        let of_name = self.manifests.keys().filter(|(of, tag)| of == name && !tag.contains(':'));
        let last = request.query("last").unwrap_or_default();
        let tags: Vec<&str> = of_name.map(|(_, tag)| tag.as_str()).filter(|tag| *tag > last).collect();
        let page = &tags[..tags.len().min(2)];
        let answer = Answer::new(200).body(json!({ "name": name, "tags": page }).to_string().as_bytes());
        if tags.len() <= 2 {
            return answer;
        }
        answer.header("Link", format!("</v2/{name}/tags/list?n=2&last={}>; rel=\"next\"", page[1]))
    }

    fn referrers(&self, name: &str, digest: &str) -> Answer {
        let mut listed = BTreeMap::new();
        for ((_, key), (media_type, bytes)) in self.manifests.iter().filter(|((of, _), _)| of == name) {
            let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            if key.contains(':') && json["subject"]["digest"] == digest {
                listed.insert(key, json!({ "mediaType": media_type, "digest": key, "size": bytes.len(), "artifactType": json["artifactType"] }));
            }
        }
        let index = json!({ "schemaVersion": 2, "manifests": listed.values().collect::<Vec<_>>() });
        Answer::new(200).body(index.to_string().as_bytes())
    }
}

/// The header of [`USER`] with [`PASSWORD`].
fn basic() -> String {
    "Basic bWU6aHVudGVyMjp4".into()
}
