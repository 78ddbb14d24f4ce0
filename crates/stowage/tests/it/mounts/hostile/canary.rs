//! Secrets stay where they belong.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use serde_json::json;
use stowage_testkit::api_server::TOKEN;
use stowage_testkit::kubelet::Pod;
use stowage_testkit::registry::{At, BearerOptions, Place, Registry};
use stowage_testkit::{ApiServer, Fault, Target};
use tonic::Code;

use crate::harness::{Node, digest_of, scene, until};
use crate::mounts::{Model, publication, publish};

const MIB: u64 = 1 << 20;
/// Text that must appear nowhere but in the secret itself and on the wire to its registry.
const CANARY: &str = "canary-7f3a";

/// Everything that is looked through for secrets: name and content.
fn everything(node: &Node) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("the log".to_owned(), node.whole_log().into_bytes())];
    for file in node.files("") {
        let path = node.store().join(&file);
        // The socket of the store's commands cannot be read.
        let bytes = std::fs::read(&path).unwrap_or_default();
        all.push((format!("the name of {}", file.display()), file.display().to_string().into_bytes()));
        all.push((format!("the store's {}", file.display()), bytes));
    }
    let process = PathBuf::from(format!("/proc/{}", node.pid()));
    all.push(("the command line".to_owned(), std::fs::read(process.join("cmdline")).unwrap()));
    all
}

fn holds(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

/// What a registry was given, and gave, to prove who asks.
fn on_the_wire(registry: &Registry) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for request in registry.traffic().requests() {
        if let Some(sent) = request.header("authorization") {
            words.insert(sent.split_once(' ').unwrap().1.to_owned());
        }
        if request.place == Place::Storage {
            let query = request.query.unwrap_or_default();
            words.extend(
                query.split('&').filter_map(|pair| Some(pair.split_once("Signature=")?.1.to_owned())),
            );
        }
    }
    words
}

/// A pull secret for the registry.
fn docker(registry: &Registry, password: &str) -> String {
    json!({ "auths": { registry.host(): { "username": "ada", "password": password } } }).to_string()
}

/// Secrets that are wrong in every way.
fn wrong_secrets(registry: &Registry) -> [Vec<(&'static str, String)>; 7] {
    let wrong = docker(registry, &format!("{CANARY}-wrong"));
    let broken = format!("{{\"auths\": {CANARY}-broken");
    let not_base64 = json!({ "auths": { registry.host(): { "auth": format!("{CANARY}-not:base64") } } });
    let (half, host) = (format!("{CANARY}-half"), registry.host());
    [
        vec![(".dockerconfigjson", wrong)],
        vec![(".dockerconfigjson", broken.clone())],
        vec![(".dockerconfigjson", not_base64.to_string())],
        vec![(".dockercfg", broken)],
        vec![("username", "ada".to_owned()), ("password", half.clone())],
        vec![("password", half.clone()), ("registry", host.clone())],
        vec![("username", "ada".to_owned()), ("password", half), ("registry", host)],
    ]
}

/// Signed URLs and challenges that lead nowhere.
fn failing(registry: &Registry) -> [Fault; 6] {
    let elsewhere = |host: &str| Fault::Redirect(format!("{host}/blob?X-Signature={CANARY}-query#{CANARY}"));
    let with_password = format!("https://{CANARY}-user:{CANARY}-secret@{}/blob", registry.storage_host());
    [
        elsewhere("http://169.254.169.254"),
        elsewhere("https://no-such-host.invalid"),
        elsewhere(&format!("https://{}", registry.storage_host())),
        Fault::Redirect(with_password),
        Fault::Challenge(format!("Bearer realm=\"http://127.0.0.1:1/token?key={CANARY}-realm\"")),
        Fault::Challenge(format!("Nonsense {CANARY}-challenge")),
    ]
}

#[test]
fn no_secret_is_in_logs_metrics_messages_events_or_the_store() {
    scene(async |scene| {
        let password = format!("{CANARY}-password");
        let registry = Registry::builder()
            .tls()
            .bearer(BearerOptions::default())
            .user("ada", &password)
            .redirect_blobs(None, None)
            .start()
            .await
            .unwrap();
        // Every word that our own crates have, and what others say of their work.
        let log = "debug,stowage=trace,stowage_node=trace,stowage_volumes=trace,stowage_engine=trace,\
                   stowage_registry=trace,stowage_store=trace";
        let api = ApiServer::start().await.unwrap();
        let builder = scene.node().registry(&registry).kubernetes(&api);
        let mut node = builder.arg("--log", log).start().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 3 * MIB);
        let mut said: Vec<String> = Vec::new();
        let tokens = json!({ "": { "token": format!("{CANARY}-token"), "expirationTimestamp": "2026-01-01T00:00:00Z" } });
        let request = |secrets: &[(&str, String)]| {
            let mut request = node.plugin().inline(&Pod::new("team", "pod"), "model", &model.attributes());
            let pairs = secrets.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
            request.secrets = pairs.chain([("unrelated".to_owned(), format!("{CANARY}-other"))]).collect();
            let key = "csi.storage.k8s.io/serviceAccount.tokens";
            request.volume_context.insert(key.to_owned(), tokens.to_string());
            request.secrets.insert(key.to_owned(), tokens.to_string());
            request
        };

        for secrets in wrong_secrets(&registry) {
            let status = node.plugin().publish(&request(&secrets)).await.unwrap_err();
            assert!(matches!(status.code(), Code::Unauthenticated | Code::InvalidArgument), "{status}");
            said.push(status.message().to_owned());
        }
        let right = [(".dockerconfigjson", docker(&registry, &password))];
        let blobs = || Target::Digest(model.file.clone());
        for fault in failing(&registry) {
            let rule = registry.faults().always(blobs(), fault);
            let request = request(&right);
            let plugin = node.plugin().deadline(Duration::from_secs(8));
            let status = plugin.publish(&request).await.unwrap_err();
            said.push(status.message().to_owned());
            node.plugin().unpublish(&publication(&request)).await.unwrap();
            registry.faults().remove(rule);
        }
        registry.faults().next(2, blobs(), Fault::Truncate(At::Blob(MIB)));
        let good = request(&right);
        let volume = publish(&node, &good).await;
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
        let stats = node.plugin().stats(&volume).await.unwrap();
        said.push(format!("{stats:?}"));
        said.push(node.http("/metrics").await.1);
        said.push(node.http("/readyz").await.1);

        until("the events were written", || api.bodies().iter().any(|body| body.contains("ArtifactMounted")))
            .await;
        said.extend(api.bodies());
        let mut words = on_the_wire(&registry);
        assert!(words.iter().any(|word| word.starts_with("token-")), "bearer tokens were used: {words:?}");
        assert!(words.len() > 3, "signed URLs were used: {words:?}");
        words.insert(CANARY.to_owned());
        words.insert(TOKEN.to_owned());
        words.extend(
            ["", ":"]
                .map(|sep| base64::engine::general_purpose::STANDARD.encode(format!("ada{sep}{password}"))),
        );
        let look = |all: Vec<(String, Vec<u8>)>, when: &str| {
            for (name, text) in all {
                for word in &words {
                    assert!(!holds(&text, word), "{when}, {name} holds {word}: {}", excerpt(&text, word));
                }
            }
        };
        assert!(node.whole_log().contains("\"level\":\"DEBUG\""), "the log is as verbose as it can be");
        look(
            said.into_iter().map(|text| ("an answer".to_owned(), text.into_bytes())).collect(),
            "while running",
        );
        look(everything(&node), "while running");
        node.restart().await;
        node.plugin().unpublish(&volume).await.unwrap();
        look(everything(&node), "after a restart");
    });
}

/// The line of a text in which a word stands.
fn excerpt(text: &[u8], word: &str) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned()
}
