//! A real registry: Debian's `docker-registry` with TLS on a free loopback port; with a password, without one, or
//! as a pull-through mirror of another registry.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use stowage_artifact::Digest;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use crate::registry::Identity;
use crate::tools::{Tool, ToolError};

/// How long the binary may take until it listens.
const START: Duration = Duration::from_secs(20);

/// Why the registry did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A binary is missing or failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Its directory could not be written, or it could not be started.
    #[error("docker-registry could not be started: {0}")]
    Io(#[from] io::Error),
    /// It ended, or never said where it listens.
    #[error("docker-registry does not listen; its last words: {0}")]
    Silent(String),
}

/// Whom a pull-through mirror stands before.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `scheme://host[:port]`.
    pub url: String,
    /// The authority to trust there, besides none.
    pub ca_file: Option<PathBuf>,
    /// The mirror's own account there. `docker-registry` 2.8 can use it for bearer tokens only.
    pub account: Option<(String, String)>,
}

/// One request as the registry logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// The `User-Agent`.
    pub agent: String,
}

/// Who may read, and where the content is.
enum Mode<'a> {
    Password(&'a str, &'a str),
    Open,
    Mirror(&'a Remote),
}

/// A running `docker-registry`; dropping it kills it and removes its storage.
pub struct DockerRegistry {
    host: String,
    user: String,
    password: String,
    identity: Identity,
    // Before the directory, so that it is killed first.
    child: Child,
    directory: TempDir,
}

impl DockerRegistry {
    /// Starts it with one user.
    pub async fn start(user: &str, password: &str) -> Result<Self, StartError> {
        Self::launch(Mode::Password(user, password)).await
    }

    /// Starts it without accounts.
    pub async fn open() -> Result<Self, StartError> {
        Self::launch(Mode::Open).await
    }

    /// Starts it as a pull-through mirror, without accounts.
    pub async fn mirror(remote: &Remote) -> Result<Self, StartError> {
        Self::launch(Mode::Mirror(remote)).await
    }

    async fn launch(mode: Mode<'_>) -> Result<Self, StartError> {
        let binary = Tool::find("docker-registry")?;
        let directory = tempfile::Builder::new().prefix("stowage-docker-registry-").tempdir()?;
        let identity = Identity::generate(&[])?;
        let home = directory.path();
        let (user, password) = match mode {
            Mode::Password(user, password) => (user, password),
            Mode::Open | Mode::Mirror(_) => ("", ""),
        };
        if matches!(mode, Mode::Password(..)) {
            let hashed = Tool::find("htpasswd")?.run_with_input(&["-niB", user], password).await?;
            std::fs::write(home.join("htpasswd"), hashed)?;
        }
        std::fs::write(home.join("cert.pem"), &identity.cert_pem)?;
        std::fs::write(home.join("key.pem"), &identity.key_pem)?;
        std::fs::write(home.join("ca.crt"), &identity.ca_pem)?;
        std::fs::write(home.join("config.yml"), configuration(home, &mode).to_string())?;
        let mut command = Command::new(binary.path());
        if let Mode::Mirror(Remote { ca_file: Some(ca_file), .. }) = &mode {
            command.env("SSL_CERT_FILE", ca_file);
        }
        let mut child = command
            .arg("serve")
            .arg(home.join("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(File::create(access_log(home))?)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| StartError::Silent("no stderr".into()))?;
        let host = listening_at(stderr).await?;
        Ok(Self { host, user: user.into(), password: password.into(), identity, child, directory })
    }

    /// Kills it; its address answers nobody any more, and its storage stays until it is dropped.
    pub async fn stop(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Every request that it has answered, in the order of the answers.
    pub fn requests(&self) -> io::Result<Vec<Logged>> {
        let text = std::fs::read_to_string(access_log(self.directory.path()))?;
        Ok(text.lines().filter_map(logged).collect())
    }

    /// Whether all of a blob is in its storage, which of a mirror's is true some time after the first read.
    pub fn has_stored(&self, digest: &Digest) -> bool {
        let hex = digest.hex();
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs");
        blobs.join(digest.algorithm().as_str()).join(&hex[..2]).join(hex).join("data").exists()
    }

    /// `address:port`, as references name it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The user's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The authority to trust.
    pub fn ca_pem(&self) -> &str {
        &self.identity.ca_pem
    }

    /// A directory that holds the authority as `ca.crt`, for tools that want one.
    pub fn cert_dir(&self) -> io::Result<std::path::PathBuf> {
        let certs = self.directory.path().join("certs");
        std::fs::create_dir_all(&certs)?;
        std::fs::write(certs.join("ca.crt"), &self.identity.ca_pem)?;
        Ok(certs)
    }

    /// The authority as a file.
    pub fn ca_file(&self) -> std::path::PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A `.dockerconfigjson` with the user's credentials, if there is a user.
    pub fn docker_config(&self) -> String {
        use base64::Engine;
        if self.user.is_empty() {
            return json!({ "auths": {} }).to_string();
        }
        let pair = format!("{}:{}", self.user, self.password);
        let auth = base64::engine::general_purpose::STANDARD.encode(pair);
        json!({ "auths": { &self.host: { "auth": auth } } }).to_string()
    }

    /// A reference by tag.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host)
    }
}

impl std::fmt::Debug for DockerRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerRegistry").field("host", &self.host).finish_non_exhaustive()
    }
}

fn access_log(home: &Path) -> PathBuf {
    home.join("access.log")
}

/// The configuration, as JSON, which is YAML.
fn configuration(home: &Path, mode: &Mode<'_>) -> serde_json::Value {
    let mut configuration = json!({
        "version": 0.1,
        "log": { "level": "info", "formatter": "text" },
        "storage": {
            "filesystem": { "rootdirectory": home.join("storage") },
            "delete": { "enabled": true },
        },
        "http": {
            // The port is chosen by the kernel and read from the log.
            "addr": "127.0.0.1:0",
            "secret": "stowage",
            "tls": { "certificate": home.join("cert.pem"), "key": home.join("key.pem") },
        },
    });
    match mode {
        Mode::Password(..) => {
            let htpasswd = json!({ "realm": "stowage", "path": home.join("htpasswd") });
            configuration["auth"] = json!({ "htpasswd": htpasswd });
        }
        Mode::Open => {}
        Mode::Mirror(remote) => {
            configuration["proxy"] = json!({ "remoteurl": remote.url });
            if let Some((user, password)) = &remote.account {
                configuration["proxy"]["username"] = json!(user);
                configuration["proxy"]["password"] = json!(password);
            }
        }
    }
    configuration
}

/// Reads a line of the combined log format.
fn logged(line: &str) -> Option<Logged> {
    let mut quoted = line.split('"');
    let request = quoted.nth(1)?;
    let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
    let agent = quoted.nth(2)?.to_owned();
    let mut words = request.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Logged { method, path, status, agent })
}

/// Reads the log until it says where the registry listens, then goes on reading it away.
async fn listening_at(stderr: ChildStderr) -> Result<String, StartError> {
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Vec::new();
    let address = tokio::time::timeout(START, async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(address) = address_in(&line) {
                return Some(address);
            }
            said.push(line);
        }
        None
    });
    match address.await {
        Ok(Some(address)) => {
            // A full pipe would stop the registry.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            Ok(address)
        }
        _ => Err(StartError::Silent(said.pop().unwrap_or_else(|| "none".into()))),
    }
}

fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on ")?;
    let end = rest.find([',', '"', ' ']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_access_log_is_read() {
        let line = r#"127.0.0.1 - - [21/Nov/2026:08:08:07 +0000] "GET /v2/a/b/blobs/sha256:a7?ns=x HTTP/1.1" 206 300 "" "Go-http-client/1.1""#;
        let expected = Logged {
            method: "GET".into(),
            path: "/v2/a/b/blobs/sha256:a7?ns=x".into(),
            status: 206,
            agent: "Go-http-client/1.1".into(),
        };
        assert_eq!(logged(line), Some(expected));
        for line in ["", "no quotes", r#"x "GET" 200"#, r#"x "GET /" many "" """#] {
            assert_eq!(logged(line), None, "{line}");
        }
    }

    #[test]
    fn the_address_is_found_in_either_form_of_the_log() {
        let tls = r#"time="…" level=info msg="listening on 127.0.0.1:41417, tls" go.version=go1.19"#;
        assert_eq!(address_in(tls).as_deref(), Some("127.0.0.1:41417"));
        let plain = r#"level=info msg="listening on 127.0.0.1:5000" go.version=go1.19"#;
        assert_eq!(address_in(plain).as_deref(), Some("127.0.0.1:5000"));
        assert_eq!(address_in("level=info msg=\"using inmemory blob descriptor cache\""), None);
    }
}
