//! Reads the text of a `hosts.toml`.

use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderName};
use toml::de::{DeTable, DeValue};
use url::Url;

use super::{Capabilities, HostEntry, HostSettings, HostsFile, HostsFileError, duration, header_value};

/// Headers that belong to the connection or to what is asked; no file changes them.
const OUR_HEADERS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "upgrade",
    "range",
    "accept",
    "accept-encoding",
];
/// What a value can be.
type Value<'i> = toml::Spanned<DeValue<'i>>;

/// Reads a `hosts.toml` that stands in `directory`, where the paths in it begin.
///
/// Keys that nobody knows are noted, not refused: containerd skips them too.
pub fn parse_hosts(text: &str, directory: &Path) -> Result<HostsFile, HostsFileError> {
    let reader = Reader { text, directory };
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        reader.wrong(at, format!("it is not TOML ({})", one_line(error.message())))
    })?;
    reader.file(document.get_ref())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Reader<'a> {
    text: &'a str,
    directory: &'a Path,
}

/// The settings of one host on their way, with what its URL needs to know.
#[derive(Default)]
struct Draft {
    settings: HostSettings,
    override_path: bool,
}

impl Reader<'_> {
    fn wrong(&self, at: usize, reason: impl Into<String>) -> HostsFileError {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        HostsFileError { line, reason: reason.into() }
    }

    fn file(&self, document: &DeTable<'_>) -> Result<HostsFile, HostsFileError> {
        let mut file = HostsFile::default();
        let mut root = Draft::default();
        let mut server = None;
        for (key, value) in document {
            match key.get_ref().to_ascii_lowercase().as_str() {
                "host" => self.hosts(value, &mut file)?,
                "server" => server = Some((self.string("server", value)?, value.span().start)),
                name => self.setting(name, value, "", &mut root, &mut file.notes)?,
            }
        }
        file.server = match server {
            // containerd takes an empty one as none.
            Some((text, at)) if !text.is_empty() => {
                let url = self.url(text, at, root.override_path)?;
                note_useless_tls(&url, &root.settings, &mut file.notes);
                Some(url)
            }
            _ => None,
        };
        file.settings = root.settings;
        Ok(file)
    }

    fn hosts(&self, value: &Value<'_>, file: &mut HostsFile) -> Result<(), HostsFileError> {
        let at = value.span().start;
        let Some(hosts) = value.get_ref().as_table() else {
            return Err(self.wrong(at, "`host` is a table: write [host.\"https://mirror.example\"]"));
        };
        for (name, table) in hosts {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let Some(table) = table.get_ref().as_table() else {
                return Err(self.wrong(at, "a host is a table: write [host.\"https://mirror.example\"]"));
            };
            let mut draft = Draft::default();
            let of = format!(" of host `{}`", without_user(name));
            for (key, value) in table {
                let key = key.get_ref().to_ascii_lowercase();
                self.setting(&key, value, &of, &mut draft, &mut file.notes)?;
            }
            let url = self.url(name, at, draft.override_path)?;
            note_useless_tls(&url, &draft.settings, &mut file.notes);
            file.hosts.push(HostEntry { url, settings: draft.settings });
        }
        Ok(())
    }

    fn setting(
        &self,
        key: &str,
        value: &Value<'_>,
        of: &str,
        draft: &mut Draft,
        notes: &mut Vec<String>,
    ) -> Result<(), HostsFileError> {
        let settings = &mut draft.settings;
        match key {
            "capabilities" => settings.capabilities = self.capabilities(value)?,
            "ca" => settings.ca = self.one_or_more("ca", value)?.iter().map(|path| self.path(path)).collect(),
            "client" => {
                settings.client = self.client(value)?;
                if settings.client.len() > 1 {
                    notes.push(format!("`client`{of} has several certificates; the first is used"));
                }
            }
            "skip_verify" => settings.skip_verify = self.boolean(key, value)?,
            "override_path" => draft.override_path = self.boolean(key, value)?,
            "stowage_authoritative" => settings.authoritative = self.boolean(key, value)?,
            "dial_timeout" => {
                let text = self.string(key, value)?;
                let read = duration::parse(text).filter(|limit| !limit.is_zero());
                if read.is_none() && !text.is_empty() {
                    return Err(self.wrong(
                        value.span().start,
                        "`dial_timeout` is not a duration: write it as \"5s\" or \"500ms\"",
                    ));
                }
                settings.dial_timeout = read;
            }
            "header" => settings.headers = self.headers(value, of, notes)?,
            unknown => notes.push(format!("`{}`{of} is not supported and has no effect", shown(unknown))),
        }
        Ok(())
    }

    fn boolean(&self, key: &str, value: &Value<'_>) -> Result<bool, HostsFileError> {
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.wrong(value.span().start, format!("`{key}` is neither true nor false")))
    }

    fn string<'v>(&self, key: &str, value: &'v Value<'_>) -> Result<&'v str, HostsFileError> {
        let found = value.get_ref();
        found.as_str().ok_or_else(|| {
            self.wrong(value.span().start, format!("`{key}` is a {}, not a string", found.type_str()))
        })
    }

    /// A string, or a list of strings.
    fn one_or_more<'v>(&self, key: &str, value: &'v Value<'_>) -> Result<Vec<&'v str>, HostsFileError> {
        match value.get_ref() {
            DeValue::Array(list) => list.iter().map(|one| self.string(key, one)).collect(),
            _ => Ok(vec![self.string(key, value)?]),
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        // An absolute path stays what it is.
        self.directory.join(text)
    }

    /// None at all means everything, as in containerd.
    fn capabilities(&self, value: &Value<'_>) -> Result<Capabilities, HostsFileError> {
        let names = self.one_or_more("capabilities", value)?;
        let mut found = Capabilities { pull: names.is_empty(), resolve: names.is_empty() };
        for name in names {
            match name.to_ascii_lowercase().as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                // Nothing is pushed from here.
                "push" | "referrers" => {}
                _ => {
                    let reason =
                        format!("capability `{}` is unknown: write `pull`, `resolve` or `push`", shown(name));
                    return Err(self.wrong(value.span().start, reason));
                }
            }
        }
        Ok(found)
    }

    /// A file with certificate and key, a list of those, or a list of pairs of files.
    fn client(&self, value: &Value<'_>) -> Result<Vec<(PathBuf, PathBuf)>, HostsFileError> {
        let alone = |path: &str| (self.path(path), self.path(path));
        let DeValue::Array(list) = value.get_ref() else {
            return Ok(vec![alone(self.string("client", value)?)]);
        };
        let mut pairs = Vec::new();
        for one in list {
            let DeValue::Array(pair) = one.get_ref() else {
                pairs.push(alone(self.string("client", one)?));
                continue;
            };
            let [certificate, key] = pair.as_ref() else {
                let reason =
                    "a pair of `client` is not a certificate and a key: write [\"a.cert\", \"a.key\"]";
                return Err(self.wrong(one.span().start, reason));
            };
            let (certificate, key) = (self.string("client", certificate)?, self.string("client", key)?);
            let key = if key.is_empty() { certificate } else { key };
            pairs.push((self.path(certificate), self.path(key)));
        }
        Ok(pairs)
    }

    fn headers(
        &self,
        value: &Value<'_>,
        of: &str,
        notes: &mut Vec<String>,
    ) -> Result<HeaderMap, HostsFileError> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(self.wrong(value.span().start, "`header` is a table of names and values"));
        };
        let mut headers = HeaderMap::new();
        for (key, value) in table {
            let at = key.span().start;
            let name = HeaderName::from_bytes(key.get_ref().as_bytes())
                .map_err(|_| self.wrong(at, "a key of `header` is not the name of a header"))?;
            if OUR_HEADERS.contains(&name.as_str()) {
                notes.push(format!("header `{name}`{of} cannot be set and has no effect"));
                continue;
            }
            for text in self.one_or_more(name.as_str(), value)? {
                // The value can be a secret, so it is not repeated.
                let value = header_value(text)
                    .ok_or_else(|| self.wrong(at, format!("the value of header `{name}` cannot be sent")))?;
                headers.append(name.clone(), value);
            }
        }
        Ok(headers)
    }

    /// Where the API of a host is.
    fn url(&self, text: &str, at: usize, override_path: bool) -> Result<Url, HostsFileError> {
        let secure = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let refuse = |reason: &str| self.wrong(at, format!("host `{}` {reason}", without_user(text)));
        let mut url = Url::parse(&secure).map_err(|_| refuse("is not a URL: write https://host[:port]"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(refuse("is neither http:// nor https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("holds a user name: credentials of mirrors go into `header`"));
        }
        url.set_query(None);
        url.set_fragment(None);
        let mut path = url.path().trim_end_matches('/').to_owned();
        if !override_path && !path.ends_with("/v2") {
            path.push_str("/v2");
        }
        url.set_path(&path);
        Ok(url)
    }
}

fn note_useless_tls(url: &Url, settings: &HostSettings, notes: &mut Vec<String>) {
    let tls = !settings.ca.is_empty() || !settings.client.is_empty() || settings.skip_verify;
    if url.scheme() == "http" && tls {
        // containerd tries https first here.
        notes.push(format!("{url} is plain http, so its settings for TLS have no effect; write https://"));
    }
}

/// A URL without what may be a password.
fn without_user(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let separator = if scheme.is_empty() { "" } else { "://" };
    shown(&format!("{scheme}{separator}{rest}"))
}

/// Foreign text as a log line may show it.
fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests;
