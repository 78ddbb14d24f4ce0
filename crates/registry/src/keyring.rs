//! Which credential of several belongs to a repository: kubelet's rules.
//!
//! Keys stand in kubelet's order, backwards by their text: of two that begin alike the longer one comes first. Kubelet
//! tries all that match, one after the other; here the first counts.

use std::cmp::Reverse;

use crate::credential::Credential;

/// Docker Hub under the names that tools write for it.
const DOCKER_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Credentials by key, in the order in which they count.
#[derive(Clone, Default)]
pub(crate) struct Keyring {
    entries: Vec<(Key, Credential)>,
}

impl Keyring {
    /// Credentials under keys such as `https://index.docker.io/v1/`, `*.dkr.ecr.*.amazonaws.com` or `quay.io/team`; of
    /// equal keys the first counts. A key that names no host never matches.
    pub(crate) fn of(entries: impl IntoIterator<Item = (String, Credential)>) -> Self {
        let entries = entries.into_iter();
        let mut entries: Vec<_> =
            entries.filter_map(|(key, credential)| Some((Key::of_file(&key)?, credential))).collect();
        entries.sort_by_cached_key(|(key, _)| Reverse(key.text()));
        Self { entries }
    }

    pub(crate) fn lookup(&self, registry: &str, repository: &str) -> Option<&Credential> {
        let path = format!("/{repository}");
        let found = hosts_of(&registry)
            .iter()
            .find_map(|host| self.entries.iter().find(|(key, _)| key.covers(host, &path)));
        found.map(|(_, credential)| credential)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Under which names a registry's keys may stand.
pub(crate) fn hosts_of<'a>(registry: &'a &'a str) -> &'a [&'a str] {
    if *registry == DOCKER_NAMES[0] { &DOCKER_NAMES } else { std::slice::from_ref(registry) }
}

/// One key: globs for the parts of a host, a port, the beginning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The parts of the host between dots; each is a glob.
    parts: Vec<String>,
    port: Option<String>,
    /// Empty, or `/` and the beginning of a repository's name.
    path: String,
}

impl Key {
    /// A key as a docker configuration has it. Those of old registries end in the version of their API, which is not
    /// part of a repository's name.
    fn of_file(key: &str) -> Option<Self> {
        let mut key = Self::parse(key)?;
        let path = match key.path.as_str() {
            "/v1" | "/v2" => "",
            path if path.starts_with("/v1/") || path.starts_with("/v2/") => &path[3..],
            path => path,
        };
        key.path = if path == "/" { String::new() } else { path.to_owned() };
        Some(key)
    }

    /// A pattern over images, whose path is the beginning of a repository's name as it is.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let key = key.trim();
        let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let (host, path) = key.find('/').map_or((key, ""), |slash| key.split_at(slash));
        let path = if path == "/" { "" } else { path };
        let (host, port) = split_port(host);
        if host.is_empty() {
            return None;
        }
        Some(Self { parts: parts(host), port: port.map(str::to_owned), path: path.to_owned() })
    }

    /// The key as one text, by which kubelet sorts.
    fn text(&self) -> String {
        let port = self.port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}{}", self.parts.join("."), self.path)
    }

    /// Globs count in the host alone; in a path they would be taken for themselves.
    pub(crate) fn has_glob_in_path(&self) -> bool {
        self.path.contains(['*', '?', '['])
    }

    pub(crate) fn covers(&self, registry: &str, path: &str) -> bool {
        let (host, port) = split_port(registry);
        let parts = parts(host);
        self.port.as_deref() == port
            && path.starts_with(&self.path)
            && self.parts.len() == parts.len()
            && self
                .parts
                .iter()
                .zip(&parts)
                .all(|(glob, part)| matches_glob(glob.as_bytes(), part.as_bytes()))
    }
}

/// The brackets of an IPv6 address are no glob, so the address loses them and stays one part.
fn parts(host: &str) -> Vec<String> {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match address.filter(|address| address.contains(':')) {
        Some(address) => vec![address.to_ascii_lowercase()],
        None => host.split('.').map(str::to_ascii_lowercase).collect(),
    }
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// One part of a host against a glob of `*`, `?`, `[a-z]`, `[^a-z]` and `\x`. A malformed glob matches nothing.
fn matches_glob(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut glob_at) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: it then takes one more byte.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if glob.get(glob_at) == Some(&b'*') {
            glob_at += 1;
            star = Some((glob_at, at));
            continue;
        }
        if at == text.len() && glob_at == glob.len() {
            return true;
        }
        let step = text.get(at).and_then(|byte| match_one(&glob[glob_at..], *byte));
        if let Some(length) = step {
            glob_at += length;
            at += 1;
        } else if let Some((after, from)) = star.filter(|(_, from)| *from < text.len()) {
            star = Some((after, from + 1));
            (glob_at, at) = (after, from + 1);
        } else {
            return false;
        }
    }
}

/// How long the first element of the glob is, if it fits the byte.
fn match_one(glob: &[u8], byte: u8) -> Option<usize> {
    match glob {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'\\'] | [] => None,
        [b'[', class @ ..] => match_class(class, byte).map(|length| length + 1),
        [own, ..] => (*own == byte).then_some(1),
    }
}

/// The same for a class whose `[` is gone.
fn match_class(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut fits = false;
    let mut first = true;
    loop {
        match class.get(at)? {
            b']' if !first => return (fits != negated).then_some(at + 1),
            b']' => return None,
            low => {
                let mut high = low;
                at += 1;
                if class.get(at) == Some(&b'-') {
                    high = class.get(at + 1).filter(|high| **high != b']')?;
                    at += 2;
                }
                fits |= (*low..=*high).contains(&byte);
            }
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Keyring, matches_glob};
    use crate::credential::Credential;

    fn chosen(keys: &[&str], registry: &str, repository: &str) -> Option<String> {
        let entries = keys.iter().map(|key| ((*key).to_owned(), Credential::password(*key, "p")));
        let keyring = Keyring::of(entries);
        keyring.lookup(registry, repository).map(|credential| match credential {
            Credential::Password { username, .. } => username.clone(),
            Credential::IdentityToken(_) => String::new(),
        })
    }

    #[test]
    fn one_key_covers_what_kubelet_says() {
        let table = [
            ("quay.io", "quay.io", "a/b", true),
            ("QUAY.io", "quay.io", "a/b", true),
            ("https://quay.io", "quay.io", "a/b", true),
            ("http://quay.io/v1/", "quay.io", "a/b", true),
            ("https://quay.io/v2/", "quay.io", "a/b", true),
            ("quay.io/v2/team", "quay.io", "team/x", true),
            ("quay.io/team", "quay.io", "team/x", true),
            ("quay.io/team", "quay.io", "teams/x", true),
            ("quay.io/team/", "quay.io", "teams/x", false),
            ("quay.io/team", "quay.io", "other/x", false),
            ("quay.io:443", "quay.io", "a/b", false),
            ("quay.io", "quay.io:443", "a/b", false),
            ("quay.io:5000", "quay.io:5000", "a/b", true),
            ("*.quay.io", "a.quay.io", "a/b", true),
            ("*.quay.io", "quay.io", "a/b", false),
            ("*.quay.io", "a.b.quay.io", "a/b", false),
            ("*.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.eu-central-1.amazonaws.com", "a/b", true),
            ("123[0-9].azurecr.io", "1234.azurecr.io", "a/b", true),
            ("prod-?.azurecr.io", "prod-1.azurecr.io", "a/b", true),
            ("prod-*.azurecr.io/team", "prod-1.azurecr.io", "team/b", true),
            ("https://index.docker.io/v1/", "docker.io", "library/x", true),
            ("index.docker.io", "docker.io", "library/x", true),
            ("docker.io", "docker.io", "library/x", true),
            ("registry-1.docker.io", "docker.io", "library/x", true),
            ("docker.io/team", "docker.io", "library/x", false),
            ("index.docker.io", "quay.io", "library/x", false),
            ("*", "localhost", "a/b", true),
            ("*", "quay.io", "a/b", false),
            ("127.0.0.1:5000", "127.0.0.1:5000", "a/b", true),
            ("[::1]:5000", "[::1]:5000", "a/b", true),
            ("", "quay.io", "a/b", false),
            ("/team", "quay.io", "team/b", false),
        ];
        for (key, registry, repository, covered) in table {
            assert_eq!(
                chosen(&[key], registry, repository).is_some(),
                covered,
                "{key} {registry}/{repository}"
            );
        }
    }

    #[test]
    fn of_several_keys_kubelets_first_one_counts() {
        let table: [(&[&str], &str); 6] = [
            (&["quay.io", "quay.io/team", "quay.io/team/x"], "quay.io/team/x"),
            (&["quay.io/v2/team", "quay.io/a"], "quay.io/v2/team"),
            (&["*.io", "quay.io"], "quay.io"),
            (&["quay.io", "*.io/team"], "quay.io"),
            (&["quay.*", "*.io"], "quay.*"),
            (&["QUAY.io/team", "quay.io"], "QUAY.io/team"),
        ];
        for (keys, expected) in table {
            assert_eq!(chosen(keys, "quay.io", "team/x").as_deref(), Some(expected), "{keys:?}");
            let turned: Vec<&str> = keys.iter().rev().copied().collect();
            assert_eq!(chosen(&turned, "quay.io", "team/x").as_deref(), Some(expected), "{turned:?}");
        }
        // What is written for Docker Hub's own name comes before its other names.
        let hub = ["index.docker.io/team", "docker.io"];
        assert_eq!(chosen(&hub, "docker.io", "team/x").as_deref(), Some("docker.io"));
        // Of equal keys the first.
        let equal = ["https://quay.io/v1/", "quay.io"];
        assert_eq!(chosen(&equal, "quay.io", "a/b").as_deref(), Some("https://quay.io/v1/"));
    }

    #[test]
    fn globs_match() {
        let table = [
            ("*", "", true),
            ("*a*b", "xaybxb", true),
            ("*a*b", "xaybx", false),
            ("a?c", "abc", true),
            ("[^a]x", "bx", true),
            ("[^a]x", "ax", false),
            ("[a-c][x]", "bx", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("[", "[", false),
            ("[]", "]", false),
            ("[a-", "a", false),
            ("[a-]", "a", false),
            (r"a\", "a", false),
        ];
        for (glob, text, expected) in table {
            assert_eq!(matches_glob(glob.as_bytes(), text.as_bytes()), expected, "{glob} {text}");
        }
    }

    proptest! {
        #[test]
        fn hostile_globs_end(glob in r"[\[\]^*?\\a-c-]{0,40}", text in "[a-c]{0,40}") {
            let _ = matches_glob(glob.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_text_matches_itself_and_a_star(text in "[a-z0-9-]{0,40}") {
            prop_assert!(matches_glob(text.as_bytes(), text.as_bytes()));
            prop_assert!(matches_glob(b"*", text.as_bytes()));
        }

        #[test]
        fn any_key_can_be_added(key in ".{0,60}") {
            let keyring = Keyring::of([(key, Credential::password("u", "p"))]);
            let _ = keyring.lookup("quay.io", "a/b");
        }
    }
}
