//! Files of object stores: addresses, and their signatures.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::Digest as _;

use super::UriError;
use crate::digest::Sha256;
use crate::percent;
use crate::registry::{Secret, WebFile, web_address};

const REGION: &str = "us-east-1";
/// How long an address is good, in seconds: as long as a pull may take.
const EXPIRES_S: u64 = 24 * 3600;
/// The bytes that HMAC works on at a time.
const BLOCK_BYTES: usize = 64;

/// How object stores are reached, and as whom.
#[derive(Clone, Debug)]
pub struct S3 {
    /// Its address, where it is not Amazon's.
    endpoint: Option<String>,
    region: String,
    credentials: Credentials,
}

#[derive(Clone, Debug)]
enum Credentials {
    Nobody,
    Known(Key),
    /// The file in which a profile is.
    Shared(PathBuf, String),
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: String,
    secret: String,
    session_token: Option<String>,
    origin: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key of {}", self.origin)
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self { endpoint: None, region: REGION.into(), credentials: Credentials::Nobody }
    }
}

impl S3 {
    /// Returns what the environment says: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_DEFAULT_REGION`,
    /// `AWS_ACCESS_KEY_ID` with `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, else the profile `AWS_PROFILE` of the file
    /// `AWS_SHARED_CREDENTIALS_FILE` or `~/.aws/credentials`. Without any of them, files are asked for without credentials.
    pub(super) fn from_environment(variable: &impl Fn(&str) -> Option<String>) -> Self {
        let key = || {
            Some(Key {
                id: variable("AWS_ACCESS_KEY_ID")?,
                secret: variable("AWS_SECRET_ACCESS_KEY")?,
                session_token: variable("AWS_SESSION_TOKEN"),
                origin: "AWS_ACCESS_KEY_ID".into(),
            })
        };
        let file = || {
            let named = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
            let usual = || Some(Path::new(&variable("HOME")?).join(".aws/credentials"));
            let profile = variable("AWS_PROFILE");
            let path = named.or_else(usual)?;
            // The usual file need not be there, unless a profile of it is asked for.
            let is_wanted = path.exists() || profile.is_some();
            is_wanted.then(|| Credentials::Shared(path, profile.unwrap_or_else(|| "default".into())))
        };
        Self {
            endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
            region: variable("AWS_REGION")
                .or_else(|| variable("AWS_DEFAULT_REGION"))
                .unwrap_or_else(|| REGION.into()),
            credentials: key().map(Credentials::Known).or_else(file).unwrap_or(Credentials::Nobody),
        }
    }

    /// Returns where an object is. What follows the bucket is its key as it is: `%2F` in it is three characters.
    pub(super) fn locate(&self, uri: &str) -> Result<WebFile, UriError> {
        let invalid =
            || UriError::invalid(uri, "expected s3://BUCKET/KEY, a key without empty parts, `.` and `..`");
        let (bucket, key) =
            uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or_else(invalid)?;
        let is_bucket = !bucket.is_empty()
            && bucket.len() <= 63
            && bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && bucket.bytes().any(|byte| byte.is_ascii_alphanumeric());
        if !is_bucket || key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid());
        }
        let is_host_name =
            bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let encoded = percent::encode(key, "/");
        let address = match &self.endpoint {
            Some(endpoint) => format!("{}/{bucket}/{encoded}", endpoint.trim_end_matches('/')),
            // A certificate covers one part of a name.
            None if is_host_name => format!("https://{bucket}.s3.{}.amazonaws.com/{encoded}", self.region),
            None => format!("https://s3.{}.amazonaws.com/{bucket}/{encoded}", self.region),
        };
        let url = web_address(&address).map_err(|error| UriError::invalid(uri, error.to_string()))?;
        let key = match &self.credentials {
            Credentials::Nobody => return Ok(WebFile::new(url, None)),
            Credentials::Known(key) => key.clone(),
            Credentials::Shared(file, profile) => shared(uri, file, profile)?,
        };
        let signed = sign(url.as_str(), &key, &self.region, now());
        let url = web_address(&signed).map_err(|error| UriError::invalid(uri, error.to_string()))?;
        Ok(WebFile::new(url, Some(Secret::of_address(&key.origin))))
    }
}

/// Reads a profile of a credentials file.
fn shared(uri: &str, file: &Path, profile: &str) -> Result<Key, UriError> {
    let wrong =
        |problem: String| UriError::Credentials { uri: super::shown(uri), file: file.into(), problem };
    let text = fs_err::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut is_it = false;
    let (mut id, mut secret, mut session_token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_it = name.trim() == profile;
        } else if let Some((name, value)) =
            line.split_once('=').filter(|_| is_it && !line.starts_with(['#', ';']))
        {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => session_token = value,
                _ => {}
            }
        }
    }
    let missing = || {
        wrong(format!("it has no aws_access_key_id and aws_secret_access_key for the profile `{profile}`"))
    };
    let (Some(id), Some(secret)) = (id, secret) else { return Err(missing()) };
    Ok(Key { id, secret, session_token, origin: format!("{} ({profile})", file.display()) })
}

/// Returns the address of an object, signed for a GET by the rules of AWS Signature Version 4, in its query.
fn sign(address: &str, key: &Key, region: &str, time: Duration) -> String {
    let (_, rest) = address.split_once("://").unwrap_or(("", address));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (day, time) = date(time);
    let scope = format!("{day}/{region}/s3/aws4_request");
    let mut query = vec![
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Credential", format!("{}/{scope}", key.id)),
        ("X-Amz-Date", time.clone()),
        ("X-Amz-Expires", EXPIRES_S.to_string()),
    ];
    query.extend(key.session_token.iter().map(|token| ("X-Amz-Security-Token", token.clone())));
    query.push(("X-Amz-SignedHeaders", "host".to_owned()));
    let query: Vec<String> =
        query.iter().map(|(name, value)| format!("{name}={}", percent::encode(value, ""))).collect();
    let query = query.join("&");
    let request = format!("GET\n/{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", Sha256::of(request.as_bytes()).to_hex());
    let first = format!("AWS4{}", key.secret).into_bytes();
    let signing_key = [day.as_str(), region, "s3", "aws4_request"]
        .iter()
        .fold(first, |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = Sha256::from_bytes(hmac(&signing_key, text.as_bytes())).to_hex();
    format!("{address}?{query}&X-Amz-Signature={signature}")
}

/// HMAC with SHA-256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&sha2::Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let hash = |pad: u8, text: &[u8]| {
        let mut hasher = sha2::Sha256::new();
        hasher.update(block.map(|byte| byte ^ pad));
        hasher.update(text);
        <[u8; 32]>::from(hasher.finalize())
    };
    hash(0x5c, &hash(0x36, text))
}

/// Returns a time since 1970 as `20130524` and `20130524T000000Z`.
fn date(time: Duration) -> (String, String) {
    let seconds = time.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, from 0000-03-01, in eras of 400.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next_year;
    let date = format!("{year:04}{month:02}{day:02}");
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let time = format!("{date}T{hour:02}{minute:02}{second:02}Z");
    (date, time)
}

#[expect(clippy::disallowed_methods, reason = "a signature names its time")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in Amazon's documentation of signed addresses.
    #[test]
    fn the_documented_signature() {
        let key = Key {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
            origin: "x".into(),
        };
        let time = Duration::from_secs(1_369_353_600);
        let signed = sign("https://examplebucket.s3.amazonaws.com/test.txt", &key, "us-east-1", time);
        let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert!(signed.ends_with(&format!("&X-Amz-Signature={signature}")), "{signed}");
    }

    #[test]
    fn dates() {
        let check = |seconds: u64, expected: &str| assert_eq!(date(Duration::from_secs(seconds)).1, expected);
        check(0, "19700101T000000Z");
        check(951_868_799, "20000229T235959Z");
        check(951_868_800, "20000301T000000Z");
        check(1_795_694_400, "20261126T120000Z");
        check(4_102_444_799, "20991231T235959Z");
    }

    /// RFC 4231, test cases 2 and 6.
    #[test]
    fn hmacs() {
        let check = |key: &[u8], text: &[u8], expected: &str| {
            assert_eq!(Sha256::from_bytes(hmac(key, text)).to_hex(), expected);
        };
        check(
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        );
        check(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
    }
}
