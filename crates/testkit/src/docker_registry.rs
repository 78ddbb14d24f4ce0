//! A real registry: Debian's `docker-registry` with TLS and htpasswd, on a free loopback port.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
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

/// A running `docker-registry`; dropping it kills it and removes its storage.
pub struct DockerRegistry {
    host: String,
    user: String,
    password: String,
    identity: Identity,
    // Before the directory, so that it is killed first.
    _child: Child,
    directory: TempDir,
}

impl DockerRegistry {
    /// Starts it with one user.
    pub async fn start(user: &str, password: &str) -> Result<Self, StartError> {
        let binary = Tool::find("docker-registry")?;
        let directory = tempfile::Builder::new().prefix("stowage-docker-registry-").tempdir()?;
        let identity = Identity::generate(&[])?;
        let hashed = Tool::find("htpasswd")?.run_with_input(&["-niB", user], password).await?;
        let home = directory.path();
        std::fs::write(home.join("htpasswd"), hashed)?;
        std::fs::write(home.join("cert.pem"), &identity.cert_pem)?;
        std::fs::write(home.join("key.pem"), &identity.key_pem)?;
        std::fs::write(home.join("ca.crt"), &identity.ca_pem)?;
        std::fs::write(home.join("config.yml"), configuration(home).to_string())?;
        let mut child = Command::new(binary.path())
            .arg("serve")
            .arg(home.join("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| StartError::Silent("no stderr".into()))?;
        let host = listening_at(stderr).await?;
        Ok(Self { host, user: user.into(), password: password.into(), identity, _child: child, directory })
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

    /// A `.dockerconfigjson` with the user's credentials.
    pub fn docker_config(&self) -> String {
        use base64::Engine;
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

/// The configuration, as JSON, which is YAML.
fn configuration(home: &Path) -> serde_json::Value {
    json!({
        "version": 0.1,
        "log": { "level": "info", "formatter": "text", "accesslog": { "disabled": true } },
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
        "auth": { "htpasswd": { "realm": "stowage", "path": home.join("htpasswd") } },
    })
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
    fn the_address_is_found_in_either_form_of_the_log() {
        let tls = r#"time="…" level=info msg="listening on 127.0.0.1:41417, tls" go.version=go1.19"#;
        assert_eq!(address_in(tls).as_deref(), Some("127.0.0.1:41417"));
        let plain = r#"level=info msg="listening on 127.0.0.1:5000" go.version=go1.19"#;
        assert_eq!(address_in(plain).as_deref(), Some("127.0.0.1:5000"));
        assert_eq!(address_in("level=info msg=\"using inmemory blob descriptor cache\""), None);
    }
}
