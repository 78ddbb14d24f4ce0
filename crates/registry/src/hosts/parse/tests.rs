use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::parse_hosts;
use crate::hosts::HostsFile;

fn read(text: &str) -> HostsFile {
    parse_hosts(text, Path::new("/certs.d/ghcr.io")).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn hosts_keep_the_order_of_the_file() {
    let file = read(
        r#"
        server = "https://registry-1.docker.io"
        [host."https://z.example"]
        capabilities = ["pull"]
        [host."https://z.example".header]
        x-one = "1"
        [host."http://a.example:5000"]
        [host."https://m.example/v2/proxy"]
        override_path = true
        "#,
    );
    let urls: Vec<&str> = file.hosts.iter().map(|host| host.url.as_str()).collect();
    assert_eq!(urls, ["https://z.example/v2", "http://a.example:5000/v2", "https://m.example/v2/proxy"]);
    assert_eq!(file.server.unwrap().as_str(), "https://registry-1.docker.io/v2");
    assert!(file.hosts[0].settings.capabilities.pull && !file.hosts[0].settings.capabilities.resolve);
    assert!(file.hosts[1].settings.capabilities.pull && file.hosts[1].settings.capabilities.resolve);
    assert_eq!(file.hosts[0].settings.headers["x-one"], "1");
    assert!(file.notes.is_empty(), "{:?}", file.notes);
}

#[test]
fn urls_end_where_the_api_begins() {
    let table = [
        ("mirror.example", false, "https://mirror.example/v2"),
        ("httpbin.example", false, "https://httpbin.example/v2"),
        ("mirror.example:5000", false, "https://mirror.example:5000/v2"),
        ("https://mirror.example/", false, "https://mirror.example/v2"),
        ("https://mirror.example/v2/", false, "https://mirror.example/v2"),
        ("https://mirror.example/us", false, "https://mirror.example/us/v2"),
        ("https://mirror.example/v2/us", false, "https://mirror.example/v2/us/v2"),
        ("https://mirror.example/v2/us/", true, "https://mirror.example/v2/us"),
        ("https://mirror.example", true, "https://mirror.example/"),
        ("https://mirror.example/a/../b?x=y#z", false, "https://mirror.example/b/v2"),
        ("http://[::1]:5000", false, "http://[::1]:5000/v2"),
    ];
    for (host, override_path, expected) in table {
        let file = read(&format!("[host.{host:?}]\noverride_path = {override_path}"));
        assert_eq!(file.hosts[0].url.as_str(), expected, "{host}");
        let file = read(&format!("server = {host:?}\noverride_path = {override_path}"));
        assert_eq!(file.server.unwrap().as_str(), expected, "{host}");
    }
}

#[test]
fn certificates_are_found_beside_the_file() {
    let file = read(
        r#"
        ca = "own.crt"
        client = "/both.pem"
        [host."https://a.example"]
        ca = ["a.crt", "/b.crt"]
        client = [["a.cert", "a.key"], ["b.pem", ""], "c.pem"]
        skip_verify = true
        dial_timeout = "1.5s"
        "#,
    );
    let here = |name: &str| PathBuf::from("/certs.d/ghcr.io").join(name);
    assert_eq!(file.settings.ca, [here("own.crt")]);
    assert_eq!(file.settings.client, [(here("/both.pem"), here("/both.pem"))]);
    let settings = &file.hosts[0].settings;
    assert_eq!(settings.ca, [here("a.crt"), here("/b.crt")]);
    let pairs = [("a.cert", "a.key"), ("b.pem", "b.pem"), ("c.pem", "c.pem")];
    assert_eq!(settings.client, pairs.map(|(certificate, key)| (here(certificate), here(key))));
    assert!(settings.skip_verify);
    assert_eq!(settings.dial_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(file.notes.len(), 1, "{:?}", file.notes);
}

#[test]
fn what_has_no_effect_is_noted() {
    let table = [
        ("proxy = \"http://p:1\"", "`proxy` is not supported"),
        ("[host.\"https://a\".rewrite]\n\"^x\" = \"y\"", "`rewrite` of host `https://a` is not supported"),
        ("[host.\"http://a\"]\nskip_verify = true", "plain http"),
        ("[header]\nHost = \"x\"", "header `host` cannot be set"),
        ("client = [\"a\", \"b\"]", "the first is used"),
    ];
    for (text, expected) in table {
        let notes = read(text).notes;
        assert!(notes.len() == 1 && notes[0].contains(expected), "{text}: {notes:?}");
    }
}

#[test]
fn keys_are_read_as_containerd_reads_them() {
    assert!(read("").hosts.is_empty());
    assert!(read("[host]").hosts.is_empty());
    assert!(read("server = \"\"").server.is_none());
    let empty = read("capabilities = []").settings;
    assert!(empty.capabilities.pull && empty.capabilities.resolve);
    let push = read("capabilities = [\"push\"]").settings;
    assert!(!push.capabilities.pull && !push.capabilities.resolve);
    let upper = read("CAPABILITIES = [\"Pull\"]").settings;
    assert!(upper.capabilities.pull && !upper.capabilities.resolve);
    assert!(read("stowage_authoritative = true").settings.authoritative);
    let headers = read("[header]\nX-Two = [\"a\", \"b\"]").settings.headers;
    assert_eq!(headers.get_all("x-two").iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let table = [
        ("server = \"https://a\"\n[host", 2, "not TOML"),
        ("\nserver = 5", 2, "`server` is a integer"),
        ("host = \"https://a\"", 1, "`host` is a table"),
        ("[host]\n\"https://a\" = 1", 2, "a host is a table"),
        ("[host.\"ftp://a\"]", 1, "neither http"),
        ("[host.\"https://\"]", 1, "not a URL"),
        ("\n\n[host.\"https://a\"]\ncapabilities = [\"pul\"]", 4, "capability `pul` is unknown"),
        ("ca = [1]", 1, "`ca` is a integer"),
        ("client = [[\"a\"]]", 1, "pair"),
        ("skip_verify = \"yes\"", 1, "neither true nor false"),
        ("dial_timeout = \"soon\"", 1, "\"5s\""),
        ("[header]\n\"a b\" = \"c\"", 2, "name of a header"),
        ("[header]\na = \"\\n\"", 2, "cannot be sent"),
        ("header = 1", 1, "`header` is a table"),
        ("a = 1\na = 2", 2, "not TOML"),
    ];
    for (text, line, reason) in table {
        let error = parse_hosts(text, Path::new("/x")).unwrap_err();
        assert!(error.line == line && error.reason.contains(reason), "{text}: {error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let error = parse_hosts("[host.\"https://ada:canary@a\"]", Path::new("/x")).unwrap_err();
    assert!(error.reason.contains("https://a`") && !error.reason.contains("canary"), "{error}");
    let error = parse_hosts("[header]\nauthorization = \"canary\\u0000\"", Path::new("/x")).unwrap_err();
    assert!(!error.reason.contains("canary"), "{error}");
    let file = read("[host.\"https://a\".header]\nauthorization = \"canary\"");
    assert!(!format!("{file:?}").contains("canary"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = parse_hosts(&text, Path::new("/x"));
    }

    #[test]
    fn near_misses_are_read_or_refused(
        text in r#"(\[host|\."https://a"|\]|\n|server|ca|client|header|capabilities|skip_verify|=|"|"pull"|\[|,|true|5s|\.){0,30}"#
    ) {
        if let Ok(file) = parse_hosts(&text, Path::new("/x")) {
            for host in file.hosts {
                prop_assert!(host.url.has_host() && matches!(host.url.scheme(), "http" | "https"));
            }
        }
    }

    #[test]
    fn any_host_gives_a_url_or_none(host in "\\PC{0,40}") {
        let quoted = toml_string(&host);
        if let Ok(file) = parse_hosts(&format!("[host.{quoted}]"), Path::new("/x")) {
            prop_assert!(file.hosts[0].url.username().is_empty());
            prop_assert!(file.hosts[0].url.path().ends_with("/v2"));
        }
    }
}

/// A basic string of TOML.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let _ = write!(quoted, "\\U{:08x}", u32::from(c));
    }
    quoted + "\""
}
