//! One run of a plugin: a request on its standard input, a response on its standard output (credentialprovider.kubelet.k8s.io/v1).
//!
//! What it writes holds credentials, so it is never logged; what it writes to standard error is thrown away, for it may
//! hold them too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stowage_registry::parse::parse_go_duration;
use stowage_registry::{Credential, DockerConfig, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::ProviderError;
use super::config::{PLUGIN_API_VERSION, Provider};
use super::process_group::ProcessGroup;

/// How long a plugin may take; as long as under kubelet.
const LIMIT: Duration = Duration::from_mins(1);
/// The longest response that is read.
const LONGEST_RESPONSE: u64 = 1 << 20;
/// Settings of our own are none of a plugin's business.
const OWN_VARIABLES: &str = "STOWAGE_";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    api_version: &'static str,
    kind: &'static str,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account_token: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    api_version: String,
    kind: String,
    cache_key_type: CacheKeyType,
    cache_duration: Option<String>,
    #[serde(default)]
    auth: Option<BTreeMap<String, Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// For which images an answer is kept.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum CacheKeyType {
    Image,
    Registry,
    Global,
}

/// What a plugin has answered. Like the credentials, it has no `Debug`.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) credentials: DockerConfig,
    pub(super) kept_for: CacheKeyType,
    /// How long it may be kept; zero for not at all.
    pub(super) lifetime: Duration,
}

/// Runs the plugin for an image.
pub(super) async fn run(
    provider: &Provider,
    bin_dir: &Path,
    image: &str,
    token: Option<&Secret>,
) -> Result<Answer, ProviderError> {
    let failed = |reason: String| ProviderError::Failed {
        provider: provider.name.clone(),
        image: image.to_owned(),
        reason,
    };
    let request = Request {
        api_version: PLUGIN_API_VERSION,
        kind: "CredentialProviderRequest",
        image,
        service_account_token: token.map(Secret::expose),
    };
    let request = Secret::new(serde_json::to_string(&request).map_err(|error| failed(error.to_string()))?);
    let inherited =
        std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with(OWN_VARIABLES));
    let mut child = Command::new(bin_dir.join(&provider.name))
        .args(&provider.args)
        .env_clear()
        .envs(inherited)
        .envs(provider.env.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("it cannot be started: {error}")))?;
    let group = ProcessGroup::of(&child);
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let exchange = async {
        let send = async {
            if let Some(mut stdin) = stdin {
                // One that reads nothing answers all the same, or fails.
                let _ = stdin.write_all(request.expose().as_bytes()).await;
            }
        };
        let receive = async {
            let mut response = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(LONGEST_RESPONSE + 1).read_to_end(&mut response).await?;
            }
            Ok::<_, std::io::Error>(response)
        };
        let ((), response) = tokio::join!(send, receive);
        let response = response?;
        if response.len() as u64 > LONGEST_RESPONSE {
            return Ok((response, None));
        }
        Ok((response, Some(child.wait().await?)))
    };
    let exchanged = timeout(LIMIT, exchange).await;
    // Whatever came of it: nothing that it has started goes on.
    if let Some(group) = group {
        group.end(&mut child).await;
    }
    let (response, status) = exchanged
        .map_err(|_| failed(format!("it did not end within {} s", LIMIT.as_secs())))?
        .map_err(|error: std::io::Error| failed(format!("it cannot be talked to: {error}")))?;
    match status {
        None => Err(failed(format!("it wrote more than {LONGEST_RESPONSE} bytes"))),
        Some(status) if !status.success() => Err(failed(format!("it ended with {status}"))),
        Some(_) => read(provider, &response).map_err(failed),
    }
}

/// Reads a response; no word of it is repeated.
fn read(provider: &Provider, response: &[u8]) -> Result<Answer, String> {
    let response: Response = serde_json::from_slice(response).map_err(|error| {
        format!(
            "its response is not valid at line {}, column {}, and is not shown",
            error.line(),
            error.column()
        )
    })?;
    if response.api_version != PLUGIN_API_VERSION || response.kind != "CredentialProviderResponse" {
        return Err(format!("its response is not a CredentialProviderResponse of {PLUGIN_API_VERSION}"));
    }
    let lifetime = match &response.cache_duration {
        None => provider.default_cache,
        Some(text) => {
            parse_go_duration(text).ok_or_else(|| "its cacheDuration is not a duration".to_owned())?
        }
    };
    let entries = response.auth.unwrap_or_default().into_iter();
    let entries = entries.map(|(pattern, Entry { username, password })| {
        (pattern, Credential::Password { username, password: Secret::new(password) })
    });
    let credentials = DockerConfig::of(entries.collect())
        .map_err(|_| "its response has more credentials than any docker configuration".to_owned())?;
    Ok(Answer { credentials, kept_for: response.cache_key_type, lifetime })
}
