//! Docker's configuration files, as pull secrets carry them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use stowage_artifact::Reference;
use zeroize::Zeroizing;

use crate::credential::Credential;
use crate::keyring::Keyring;

/// The largest file that is read; Kubernetes allows no larger secret.
const LONGEST_FILE: usize = 1 << 20;
/// More credentials are in no real file, and each is compared with each image.
const MOST_ENTRIES: usize = 1000;

/// Written with padding by some tools and without by others.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a file is not used. Contents are never repeated: they are secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// Larger than any real one.
    #[error("the docker configuration has {bytes} bytes, and at most {LONGEST_FILE} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// With more credentials than any real one.
    #[error(
        "the docker configuration has {entries} entries, and at most {MOST_ENTRIES} are read; leave out what the image does not need"
    )]
    TooMany {
        /// How many.
        entries: usize,
    },
    /// No JSON, or JSON of another shape.
    #[error(
        "the docker configuration is not valid at line {line}, column {column}: write it as `docker login` does"
    )]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// An `auth` that is not base64 of `user:password`.
    #[error("the `auth` for `{registry}` in the docker configuration is not the base64 of `user:password`")]
    Auth {
        /// The entry's key.
        registry: String,
    },
}

/// The credentials of a docker configuration. Like the credentials, it has no `Debug`.
#[derive(Clone, Default)]
pub struct DockerConfig {
    keyring: Keyring,
}

/// Which keys of the newer form are there.
#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    auths: Present,
    #[serde(default, rename = "credHelpers")]
    helpers: Present,
    #[serde(default, rename = "credsStore")]
    store: Present,
}

/// Whether a key is there, whatever its value.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

#[derive(Deserialize)]
struct File {
    /// `credHelpers` and `credsStore` are left alone on purpose: a tenant's secret runs no program of ours.
    auths: Option<BTreeMap<String, Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default, deserialize_with = "hidden")]
    auth: Option<Zeroizing<String>>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default, deserialize_with = "hidden")]
    password: Option<Zeroizing<String>>,
    #[serde(default, deserialize_with = "hidden")]
    identitytoken: Option<Zeroizing<String>>,
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Zeroizing::new))
}

impl DockerConfig {
    /// Reads `.dockerconfigjson` (`{"auths": {…}}`) or the older `.dockercfg` (the inner map alone).
    pub fn parse(bytes: &[u8]) -> Result<Self, DockerConfigError> {
        if bytes.len() > LONGEST_FILE {
            return Err(DockerConfigError::TooLarge { bytes: bytes.len() });
        }
        // The parser's own message can quote the value that it did not expect.
        let place = |error: &serde_json::Error| DockerConfigError::Json {
            line: error.line(),
            column: error.column(),
        };
        let shape: Shape = serde_json::from_slice(bytes).map_err(|error| place(&error))?;
        let entries = if shape.auths.0 || shape.helpers.0 || shape.store.0 {
            let file: File = serde_json::from_slice(bytes).map_err(|error| place(&error))?;
            file.auths.unwrap_or_default()
        } else {
            serde_json::from_slice(bytes).map_err(|error| place(&error))?
        };
        Self::within_limit(entries.len())?;
        let mut credentials = Vec::with_capacity(entries.len());
        for (registry, entry) in entries {
            if let Some(credential) = entry.credential(&registry)? {
                credentials.push((registry, credential));
            }
        }
        Ok(Self { keyring: Keyring::of(credentials) })
    }

    /// Credentials for keys as those of `auths`.
    ///
    /// # Errors
    /// [`DockerConfigError::TooMany`] where there are more than a file may have.
    pub fn of(entries: BTreeMap<String, Credential>) -> Result<Self, DockerConfigError> {
        Self::within_limit(entries.len())?;
        Ok(Self { keyring: Keyring::of(entries) })
    }

    fn within_limit(entries: usize) -> Result<(), DockerConfigError> {
        if entries > MOST_ENTRIES { Err(DockerConfigError::TooMany { entries }) } else { Ok(()) }
    }

    /// One credential for one key, as an entry of `auths` would have it (`host[:port][/path]`, globs in the
    /// host).
    pub fn single(key: &str, credential: Credential) -> Self {
        Self { keyring: Keyring::of([(key.to_owned(), credential)]) }
    }

    /// The credential for a reference, by kubelet's rules: globs in the parts of the host, a prefix of the
    /// path, keys backwards by their text, of which the first counts; Docker Hub's under any of its names.
    pub fn lookup(&self, reference: &Reference) -> Option<Credential> {
        self.keyring.lookup(reference.registry(), reference.repository()).cloned()
    }

    /// Whether there is no credential at all.
    pub fn is_empty(&self) -> bool {
        self.keyring.is_empty()
    }
}

impl Entry {
    fn credential(self, registry: &str) -> Result<Option<Credential>, DockerConfigError> {
        let filled = |text: &Zeroizing<String>| !text.trim().is_empty();
        if let Some(token) = self.identitytoken.filter(filled) {
            return Ok(Some(Credential::identity_token(token.trim())));
        }
        if let Some(auth) = self.auth.filter(filled) {
            return decode_auth(&auth)
                .map(Some)
                .ok_or_else(|| DockerConfigError::Auth { registry: excerpt(registry) });
        }
        let (username, password) = (self.username.unwrap_or_default(), self.password.unwrap_or_default());
        let given = !username.is_empty() || !password.is_empty();
        Ok(given.then(|| Credential::password(username, password.as_str())))
    }
}

fn decode_auth(auth: &str) -> Option<Credential> {
    let pair = Zeroizing::new(BASE64.decode(auth.trim()).ok()?);
    let pair = std::str::from_utf8(&pair).ok()?;
    let (username, password) = pair.split_once(':')?;
    // Docker once wrote fixed-size buffers.
    Some(Credential::password(username, password.trim_end_matches('\0')))
}

/// A key of the file in a message: no control characters, no user name before the host, not long.
fn excerpt(key: &str) -> String {
    let key = key.rsplit('@').next().unwrap_or(key);
    key.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::{Credential, DockerConfig, DockerConfigError};

    fn found(json: &str, reference: &str) -> Option<String> {
        let config = DockerConfig::parse(json.as_bytes()).unwrap();
        config.lookup(&reference.parse().unwrap()).map(|credential| match credential {
            Credential::Password { username, password } => format!("{username}:{}", password.expose()),
            Credential::IdentityToken(token) => format!("token {}", token.expose()),
        })
    }

    #[test]
    fn entries_are_read_in_all_their_forms() {
        let table = [
            (r#"{"auths":{"a.io":{"auth":"dTpw"}}}"#, Some("u:p")),
            (r#"{"auths":{"a.io":{"auth":"dTpwOnE="}}}"#, Some("u:p:q")),
            (r#"{"auths":{"a.io":{"auth":"dTpwOnE"}}}"#, Some("u:p:q")),
            (r#"{"auths":{"a.io":{"auth":" dTpw\n"}}}"#, Some("u:p")),
            (r#"{"auths":{"a.io":{"username":"u","password":"p"}}}"#, Some("u:p")),
            (r#"{"auths":{"a.io":{"username":"x","password":"y","auth":"dTpw"}}}"#, Some("u:p")),
            (r#"{"auths":{"a.io":{"identitytoken":"t","auth":"dTpw"}}}"#, Some("token t")),
            (r#"{"auths":{"a.io":{"identitytoken":"","auth":"dTpw"}}}"#, Some("u:p")),
            (r#"{"auths":{"a.io":{"email":"e@x"}}}"#, None),
            (r#"{"auths":{"b.io":{"auth":"dTpw"}}}"#, None),
            (
                r#"{"auths":{"a.io":{"auth":"dTpw"}},"credHelpers":{"a.io":"evil"},"credsStore":"evil"}"#,
                Some("u:p"),
            ),
            (r#"{"credHelpers":{"a.io":"evil"}}"#, None),
            (r#"{"auths":null}"#, None),
            (r"{}", None),
            (r#"{"a.io":{"auth":"dTpw","email":"e"}}"#, Some("u:p")),
            (r#"{"https://a.io/v1/":{"auth":"dTpw"}}"#, Some("u:p")),
        ];
        for (json, expected) in table {
            assert_eq!(found(json, "a.io/x/y:1").as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn broken_files_are_refused_without_their_contents() {
        let long =
            format!("{{\"auths\":{{\"a.io\":{{\"password\":\"canary-42{}\"}}}}}}", " ".repeat(1 << 20));
        let table = [
            r#"{"auths":{"a.io":{"auth":"canary-42"}}}"#,
            r#"{"auths":{"user:canary-42@a.io":{"auth":"!"}}}"#,
            r#"{"auths":{"a.io":"canary-42"}}"#,
            r#"{"auths":"canary-42"}"#,
            r#"{"auths":{"a.io":{"password":["canary-42"]}}}"#,
            r#"{"a.io":"canary-42"}"#,
            r#"{"auths":{"a.io":{"password":"canary-42""#,
            "canary-42",
            "",
            "[]",
            &long,
        ];
        for json in table {
            let error =
                DockerConfig::parse(json.as_bytes()).err().unwrap_or_else(|| panic!("accepted: {json}"));
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("canary"), "{shown}");
        }
        let no_colon = format!(r#"{{"auths":{{"a.io":{{"auth":"{}"}}}}}}"#, STANDARD.encode("nocolon"));
        let error = DockerConfig::parse(no_colon.as_bytes()).err().unwrap();
        assert_eq!(error, DockerConfigError::Auth { registry: "a.io".to_owned() });
    }

    /// A mebibyte of short keys would be compared with every image.
    #[test]
    fn more_entries_than_any_real_file_has_are_refused() {
        let file = |entries: usize| {
            let auths: serde_json::Map<_, _> =
                (0..entries).map(|n| (format!("r{n}.io"), serde_json::json!({"auth": "dTpw"}))).collect();
            serde_json::json!({ "auths": auths }).to_string()
        };
        assert_eq!(found(&file(1000), "r999.io/x:1").as_deref(), Some("u:p"));
        let error = DockerConfig::parse(file(1001).as_bytes()).err().unwrap();
        assert!(error.to_string().contains("1001 entries"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(config) = DockerConfig::parse(&bytes) {
                prop_assert!(config.is_empty());
            }
        }

        #[test]
        fn a_pair_survives_its_round_trip(user in "[a-z<>-]{0,12}", password in "[ -~é]{0,30}") {
            let auth = STANDARD.encode(format!("{user}:{password}"));
            let json = serde_json::json!({"auths": {"a.io": {"auth": auth}}}).to_string();
            prop_assert_eq!(found(&json, "a.io/x:1"), Some(format!("{user}:{password}")));
        }
    }
}
