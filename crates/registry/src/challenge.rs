//! `WWW-Authenticate`: what a registry asks for (RFC 9110 section 11).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Longer headers are not read to the end.
const LONGEST_HEADER: usize = 16 * 1024;
/// More challenges and parameters are ignored.
const MOST_CHALLENGES: usize = 16;
const MOST_PARAMETERS: usize = 32;

/// One challenge: a scheme with its parameters. Scheme and names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `basic`, `bearer`, …
    pub scheme: String,
    /// Names and values, in their order.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer, over all of its header lines.
pub(crate) fn challenges_of(headers: &HeaderMap) -> Vec<Challenge> {
    let mut all = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        all.extend(parse_challenges(value.as_bytes()));
    }
    all.truncate(MOST_CHALLENGES);
    all
}

/// Reads one header value. What is malformed ends the reading; what came before it is kept.
pub fn parse_challenges(value: &[u8]) -> Vec<Challenge> {
    let mut cursor = Cursor { rest: &value[..value.len().min(LONGEST_HEADER)] };
    let mut challenges = Vec::new();
    while challenges.len() < MOST_CHALLENGES {
        cursor.skip_commas();
        let Some(scheme) = cursor.token() else { break };
        let spaced = cursor.skip_spaces();
        let parameters = if spaced { cursor.parameters() } else { Some(Vec::new()) };
        let whole = parameters.is_some();
        challenges.push(Challenge { scheme, parameters: parameters.unwrap_or_default() });
        if !whole {
            // A parameter without an end: nobody knows where the next challenge would begin.
            break;
        }
    }
    challenges
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        let length = self.rest.iter().take_while(|byte| wanted(**byte)).count();
        self.rest = &self.rest[length..];
        length > 0
    }

    fn skip_spaces(&mut self) -> bool {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t'))
    }

    fn skip_commas(&mut self) -> bool {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b','))
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.rest.first() == Some(&wanted);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// A token in lower case.
    fn token(&mut self) -> Option<String> {
        self.raw_token().map(|token| token.to_ascii_lowercase())
    }

    fn raw_token(&mut self) -> Option<String> {
        let length = self.rest.iter().take_while(|byte| is_token(**byte)).count();
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        (length > 0).then(|| String::from_utf8_lossy(token).into_owned())
    }

    /// The parameters up to the next challenge, or `None` when one of them is broken.
    fn parameters(&mut self) -> Option<Vec<(String, String)>> {
        let mut parameters = Vec::new();
        if self.skip_token68() {
            return Some(parameters);
        }
        loop {
            let start = self.rest;
            let Some(name) = self.token() else { return Some(parameters) };
            self.skip_spaces();
            if !self.eat(b'=') {
                // A token without a value is the scheme of the next challenge.
                self.rest = start;
                return Some(parameters);
            }
            self.skip_spaces();
            let value = if self.eat(b'"') { self.quoted()? } else { self.unquoted() };
            if parameters.len() < MOST_PARAMETERS {
                parameters.push((name, value));
            }
            if !self.skip_commas() && !self.rest.is_empty() {
                return None;
            }
        }
    }

    /// Skips `abc123==` standing alone behind a scheme.
    fn skip_token68(&mut self) -> bool {
        let start = self.rest;
        let is_token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let found = self.skip_while(is_token68);
        let padded = self.skip_while(|byte| byte == b'=');
        self.skip_spaces();
        let alone = self.rest.is_empty() || self.rest.first() == Some(&b',');
        // `Basic Bearer …` does not exist, but `Negotiate, Bearer …` does: only a padded text, or one that
        // ends the header, is a token68.
        if found && alone && (padded || self.rest.is_empty()) {
            return true;
        }
        self.rest = start;
        false
    }

    /// The inside of a quoted string whose opening quote is gone, or `None` without a closing one.
    fn quoted(&mut self) -> Option<String> {
        let mut text = Vec::new();
        let mut bytes = self.rest.iter().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.rest = &self.rest[at + 1..];
                    return Some(String::from_utf8_lossy(&text).into_owned());
                }
                b'\\' => text.push(*bytes.next()?.1),
                other => text.push(*other),
            }
        }
        None
    }

    /// A value without quotes. Registries leave them away around URLs too, so it goes on to a comma or space.
    fn unquoted(&mut self) -> String {
        let length = self.rest.iter().take_while(|byte| !matches!(byte, b',' | b' ' | b'\t')).count();
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        String::from_utf8_lossy(value).into_owned()
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Challenge, parse_challenges};

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Challenge { scheme: scheme.to_owned(), parameters: parameters.iter().map(own).collect() }
    }

    #[test]
    fn challenges_are_read() {
        let hub = [("realm", "https://auth.docker.io/token"), ("service", "registry.docker.io")];
        let table: &[(&str, Vec<Challenge>)] = &[
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
                vec![challenge("bearer", &hub)],
            ),
            (
                r#"bearer  Realm = "https://auth.docker.io/token" , SERVICE="registry.docker.io""#,
                vec![challenge("bearer", &hub)],
            ),
            (
                "Bearer realm=https://auth.docker.io/token,service=registry.docker.io",
                vec![challenge("bearer", &hub)],
            ),
            (
                r#"Basic realm="a, b=c", Bearer realm="x""#,
                vec![challenge("basic", &[("realm", "a, b=c")]), challenge("bearer", &[("realm", "x")])],
            ),
            (
                r#"Negotiate, Bearer realm="x""#,
                vec![challenge("negotiate", &[]), challenge("bearer", &[("realm", "x")])],
            ),
            (
                r#"Negotiate YWJj==, Basic realm="x""#,
                vec![challenge("negotiate", &[]), challenge("basic", &[("realm", "x")])],
            ),
            ("NTLM YWJj", vec![challenge("ntlm", &[])]),
            ("Basic", vec![challenge("basic", &[])]),
            (r#"Bearer realm="a\"b\\c""#, vec![challenge("bearer", &[("realm", r#"a"b\c"#)])]),
            (r#", ,Basic realm="x",,"#, vec![challenge("basic", &[("realm", "x")])]),
            (
                r#"Bearer realm="x",scope="repository:a/b:pull,push""#,
                vec![challenge("bearer", &[("realm", "x"), ("scope", "repository:a/b:pull,push")])],
            ),
            (
                r#"Basic realm="x", Bearer realm="never closed"#,
                vec![challenge("basic", &[("realm", "x")]), challenge("bearer", &[])],
            ),
            (r#"Bearer realm="x"junk"#, vec![challenge("bearer", &[])]),
            ("", vec![]),
            ("=", vec![]),
            ("\"", vec![]),
        ];
        for (header, expected) in table {
            assert_eq!(&parse_challenges(header.as_bytes()), expected, "{header}");
        }
    }

    #[test]
    fn the_first_of_two_equal_parameters_counts() {
        let found = parse_challenges(br#"Bearer realm="https://one/", realm="https://two/""#);
        assert_eq!(found[0].parameter("realm"), Some("https://one/"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_in_bounds(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let found = parse_challenges(&bytes);
            prop_assert!(found.len() <= 16);
            let total: usize = found.iter().flat_map(|c| &c.parameters).map(|(name, _)| name.len()).sum();
            prop_assert!(total <= bytes.len());
        }

        #[test]
        fn near_misses_are_read_in_bounds(text in r#"(Bearer|Basic|realm|=|"|,| |\\|x|https://h/){0,60}"#) {
            for challenge in parse_challenges(text.as_bytes()) {
                prop_assert!(!challenge.scheme.is_empty());
            }
        }

        #[test]
        fn a_quoted_value_survives_its_round_trip(value in "[ -~]{0,60}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let found = parse_challenges(format!(r#"Bearer realm="{escaped}", service="s""#).as_bytes());
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(found[0].parameter("realm"), Some(value.as_str()));
            prop_assert_eq!(found[0].parameter("service"), Some("s"));
        }
    }
}
