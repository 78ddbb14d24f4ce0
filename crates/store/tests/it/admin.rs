//! `admin.sock`.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use stowage_store::admin::{self, Client, ClientError};
use stowage_store::{ListKind, ProblemKind};

use crate::support::{TestStore, digest, download, put_files, record};

#[test]
fn the_command_line_works_on_a_running_store() {
    let store = TestStore::new();
    let spec = put_files(&store, &[("a", b"in use", false)]);
    let view = store.build_view(&spec).unwrap();
    store.put_record(&record("v", &[], Some(&view.id))).unwrap();
    let idle = download(&store, b"idle");
    std::fs::write(store.path("volumes/bad.json"), "{").unwrap();

    let server = admin::serve(&store).unwrap();
    assert_eq!(std::fs::metadata(server.path()).unwrap().permissions().mode() & 0o7777, 0o600);
    let mut client = Client::connect(store.root.path()).unwrap();
    let usage = client.usage().unwrap();
    assert_eq!((usage.blobs, usage.views, usage.volumes), (2, 1, 1));
    assert!(usage.total > usage.free && usage.free > 0, "{usage:?}");
    let entries = client.ls().unwrap();
    let of = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().clone();
    assert_eq!(of(&view.id).kind, ListKind::View);
    assert_eq!(of(&view.id).in_use_by.as_deref(), Some("volume v"));
    assert_eq!(of(digest(b"in use").as_str()).in_use_by, Some(format!("view {}", view.id)));
    assert_eq!(of(idle.as_str()).in_use_by, None);

    let in_use = client.rm(&view.id).unwrap_err();
    assert!(matches!(&in_use, ClientError::Failed(reason) if reason.contains("volume v")), "{in_use}");
    assert!(client.rm(digest(b"in use").as_str()).is_err());
    client.rm(idle.as_str()).unwrap();
    assert!(client.rm(idle.as_str()).unwrap_err().to_string().contains("not in the store"));
    assert!(client.rm("../etc/passwd").unwrap_err().to_string().contains("neither the digest"));
    let report = client.fsck(true).unwrap();
    assert_eq!(report.problems[0].kind, ProblemKind::BadRecord);
    assert!(report.is_clean());
    download(&store, b"idle");
    assert_eq!(client.gc(true, false).unwrap().blobs, 0, "it was used a moment ago");
    assert_eq!(client.gc(true, true).unwrap().blobs, 1);
}

#[test]
fn nonsense_is_answered_and_the_connection_goes_on() {
    let store = TestStore::new();
    let server = admin::serve(&store).unwrap();
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream
        .write_all(b"{\"command\":\"launch\"}\n{\"command\":\"rm\"}\nnot json\n{\"command\":\"usage\"}\n")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[..3].iter().all(|line| line.contains("cannot be understood")), "{said:?}");
    assert!(said[3].contains("\"answer\":\"usage\""), "{said:?}");
}

#[test]
fn only_our_own_socket_is_removed() {
    let store = TestStore::new();
    // What a killed process left is replaced.
    drop(UnixListener::bind(store.path("admin.sock")).unwrap());
    let server = admin::serve(&store).unwrap();
    Client::connect(store.root.path()).unwrap().usage().unwrap();
    drop(server);
    assert!(!store.path("admin.sock").exists());
    assert!(matches!(Client::connect(store.root.path()), Err(ClientError::NotRunning { .. })));

    let server = admin::serve(&store).unwrap();
    std::fs::remove_file(store.path("admin.sock")).unwrap();
    let successor = UnixListener::bind(store.path("admin.sock")).unwrap();
    drop(server);
    assert!(store.path("admin.sock").exists(), "the successor's socket stays");
    drop(successor);
}
