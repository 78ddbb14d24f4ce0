//! Grants: kept without a credential, bound to the blob.

use stowage_store::{Principal, ServiceAccount};

use crate::support::{TestStore, digest, download, everything, options};

const HOST: &str = "registry.example";

fn tenant(name: &str) -> Principal {
    Principal::Secret(name.to_owned(), "canary-pässwörd".to_owned())
}

fn service_account(namespace: &str, name: &str, uid: &str) -> ServiceAccount {
    ServiceAccount { namespace: namespace.into(), name: name.into(), uid: uid.into() }
}

#[test]
fn a_grant_of_a_service_account_is_nobody_elses() {
    let store = TestStore::new();
    let blob = download(&store, b"private");
    let grants = store.grants();
    let account = |issuer: &str, account: ServiceAccount| Principal::ServiceAccount {
        issuer: issuer.to_owned(),
        account,
    };
    let plugin = |account: ServiceAccount| Principal::ProviderServiceAccount { plugin: "i".into(), account };
    let own = service_account("team", "default", "1");
    grants.put(HOST, "a/b", &blob, &account("i", own.clone())).unwrap();
    assert!(grants.has(HOST, "a/b", &blob, &account("i", own.clone())));
    for stranger in [
        account("other", own.clone()),
        account("i", service_account("evil", "default", "1")),
        account("i", service_account("team", "other", "1")),
        // The namespace was removed and made again, by whomever.
        account("i", service_account("team", "default", "2")),
        account("i", service_account("teamd", "efault", "1")),
        plugin(own),
        Principal::Provider { plugin: "i".into(), account: "team".into() },
    ] {
        assert!(!grants.has(HOST, "a/b", &blob, &stranger), "{stranger:?}");
    }
}

#[test]
fn a_grant_is_for_one_principal_host_repository_and_blob() {
    let store = TestStore::new();
    let blob = download(&store, b"private");
    let grants = store.grants();
    grants.put(HOST, "a/b", &blob, &tenant("one")).unwrap();
    grants.put(HOST, "a/b", &blob, &tenant("one")).unwrap();
    assert!(grants.has(HOST, "a/b", &blob, &tenant("one")));
    let other_password = Principal::Secret("one".into(), "other".into());
    // No two lists of parts run together.
    let shifted = Principal::Secret("onecanary-".into(), "pässwörd".into());
    for stranger in [tenant("two"), other_password, shifted, Principal::Anonymous, Principal::Administrator] {
        assert!(!grants.has(HOST, "a/b", &blob, &stranger), "{stranger:?}");
    }
    assert!(!grants.has("registry.examplea", "/b", &blob, &tenant("one")));
    assert!(!grants.has(HOST, "a/c", &blob, &tenant("one")));
    assert!(!grants.has(HOST, "a/b", &digest(b"other"), &tenant("one")));
    assert!(!grants.has_origin(HOST, &blob), "access of one is not delivery by the host");
}

#[test]
fn grants_outlive_the_process_and_hold_no_credential() {
    let store = TestStore::new();
    let blob = download(&store, b"private");
    store.grants().put(HOST, "secret-repository", &blob, &tenant("user-of-the-canary")).unwrap();
    store.grants().put_origin(HOST, &blob).unwrap();
    let account = Principal::ServiceAccount { issuer: "i".into(), account: service_account("n", "s", "1") };
    store.grants().put(HOST, "r", &blob, &account).unwrap();
    let store = store.reopen(options());
    assert!(store.grants().has(HOST, "secret-repository", &blob, &tenant("user-of-the-canary")));
    assert!(store.grants().has_origin(HOST, &blob));
    assert!(store.grants().has(HOST, "r", &blob, &account));
    for file in ["grants/log", "grants/key"] {
        let bytes = std::fs::read(store.path(file)).unwrap();
        for canary in ["canary", "secret-repository", HOST, blob.hex()] {
            assert!(
                !bytes.windows(canary.len()).any(|window| window == canary.as_bytes()),
                "{canary} in {file}"
            );
        }
    }
    assert!(!format!("{:?}", tenant("user-of-the-canary")).contains("canary"));
}

#[test]
fn grants_go_with_their_blob() {
    let store = TestStore::new();
    let blob = download(&store, b"private");
    let kept = download(&store, b"kept");
    store.put_record(&crate::support::record("v", std::slice::from_ref(&kept), None)).unwrap();
    for digest in [&blob, &kept] {
        store.grants().put(HOST, "r", digest, &tenant("one")).unwrap();
        store.grants().put_origin(HOST, digest).unwrap();
    }
    store.collect(&everything()).unwrap();
    for _ in 0..2 {
        assert!(!store.grants().has(HOST, "r", &blob, &tenant("one")));
        assert!(!store.grants().has_origin(HOST, &blob));
        assert!(store.grants().has(HOST, "r", &kept, &tenant("one")));
    }
    let store = store.reopen(options());
    assert!(!store.grants().has(HOST, "r", &blob, &tenant("one")), "nor after a restart");
    assert!(store.grants().has(HOST, "r", &kept, &tenant("one")));
}

#[test]
fn a_damaged_log_loses_grants_and_never_invents_one() {
    let store = TestStore::new();
    let blobs: Vec<_> = (0..4_u8).map(|n| download(&store, &[n])).collect();
    for blob in &blobs {
        store.grants().put(HOST, "r", blob, &tenant("one")).unwrap();
    }
    let log = store.path("grants/log");
    let mut bytes = std::fs::read(&log).unwrap();
    assert_eq!(bytes.len(), 4 * 56);
    bytes[2 * 56 + 30] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let store = store.reopen(options());
    let has = |store: &TestStore| {
        blobs.iter().map(|blob| store.grants().has(HOST, "r", blob, &tenant("one"))).collect::<Vec<_>>()
    };
    assert_eq!(has(&store), [true, true, false, false]);
    store.grants().put(HOST, "r", &blobs[3], &tenant("one")).unwrap();
    let store = store.reopen(options());
    assert_eq!(has(&store), [true, true, false, true], "the damaged record is written over");
    std::fs::write(store.path("grants/key"), "short").unwrap();
    let store = store.reopen(options());
    assert_eq!(has(&store), [false; 4], "another key knows nothing");
    assert!(!store.path("grants/log").exists());
}

#[test]
fn a_log_of_mostly_dead_grants_is_written_anew() {
    let store = TestStore::new();
    let kept = download(&store, b"kept");
    store.put_record(&crate::support::record("v", std::slice::from_ref(&kept), None)).unwrap();
    store.grants().put_origin(HOST, &kept).unwrap();
    let blob = download(&store, b"popular");
    for tenant_number in 0..1200 {
        store.grants().put(HOST, "r", &blob, &tenant(&tenant_number.to_string())).unwrap();
    }
    store.collect(&everything()).unwrap();
    assert_eq!(std::fs::metadata(store.path("grants/log")).unwrap().len(), 56);
    let store = store.reopen(options());
    assert!(store.grants().has_origin(HOST, &kept));
}
