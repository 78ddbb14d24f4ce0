//! A canary in every place where a secret can be, and a search for it in everything that we say.

use std::fmt::{Debug, Display};
use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stowage_registry::{Credential, DockerConfig, ProxySettings, RegistryOptions, Repository};
use stowage_store::BlobSource as _;
use stowage_testkit::registry::{At, BearerOptions, RegistryBuilder, RetryAfter};
use stowage_testkit::{Fault, Registry as Server, Target};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::stage::{SIZE, Stage, drain, impatient, stage, within};

const CANARY: &str = "canary-4f1e";

/// Everything that was said: log lines, errors, debug output.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Said {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Said {
    /// Listens to this thread's log at its most talkative.
    fn listen(&self) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        // As long as there is only one listener, a log line that another test's thread meets first is switched
        // off for all threads, because nobody listens there.
        let second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        (second, tracing::subscriber::set_default(subscriber))
    }

    fn note(&self, what: &impl Debug) {
        self.0.lock().unwrap().extend_from_slice(format!("{what:?} {what:#?}\n").as_bytes());
    }

    fn note_result<T: Debug, E: Debug + Display>(&self, result: &Result<T, E>) {
        self.note(result);
        if let Err(error) = result {
            self.0.lock().unwrap().extend_from_slice(format!("{error}\n").as_bytes());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Reads in every way, and notes all that comes of it.
async fn read_in_every_way(stage: &Stage, repository: &Repository, said: &Said) {
    let reference = stage.reference();
    said.note_result(&within(repository.resolve(&reference)).await);
    said.note_result(&within(repository.manifest(&reference)).await);
    said.note_result(&within(repository.head_manifest(&stage.digest)).await);
    said.note_result(&within(repository.head_blob(&stage.digest)).await);
    said.note_result(&within(repository.read_range(&stage.digest, 0..10)).await);
    said.note_result(
        &within(repository.small_blob(&stage.descriptor(), SIZE)).await.map(|bytes| bytes.len()),
    );
    match within(repository.read(&stage.digest, Some(0..1000))).await {
        Ok(body) => {
            said.note(&body);
            said.note_result(&drain(body).await.1);
        }
        Err(error) => said.note_result::<(), _>(&Err(error)),
    }
    said.note(repository);
    said.note(&stage.client);
    said.note(&repository.describe());
}

fn builders() -> Vec<(&'static str, RegistryBuilder)> {
    let user = format!("user-{CANARY}");
    let bearer = || Server::builder().bearer(BearerOptions::default()).user(&user, CANARY);
    vec![
        ("basic", Server::builder().basic(&user, CANARY)),
        ("bearer", bearer()),
        ("links", bearer().redirect_blobs(None, None)),
        ("links that expire", bearer().redirect_blobs(Some(0), None)),
    ]
}

fn faults(stage: &Stage) -> Vec<(Target, Fault)> {
    let query = format!("?X-Amz-Signature={CANARY}");
    let inside = format!("https://user:{CANARY}@169.254.169.254/{CANARY}{query}#{CANARY}");
    let nowhere = format!("http://127.0.0.1:1/{CANARY}{query}");
    let own = format!("{}/v2/{CANARY}{query}", stage.server.origin());
    vec![
        (Target::Blobs, Fault::Redirect(inside.clone())),
        (Target::Blobs, Fault::Redirect(nowhere)),
        (Target::Blobs, Fault::Redirect(own)),
        (Target::Blobs, Fault::Redirect(format!("ftp://user:{CANARY}@x/{query}"))),
        (Target::Blobs, Fault::Redirect(format!("https://[{CANARY}"))),
        (Target::Blobs, Fault::Reset(At::Body(5))),
        (Target::Blobs, Fault::Truncate(At::Body(5))),
        (Target::Blobs, Fault::Gzip),
        (Target::Blobs, Fault::RangeNotSatisfiable),
        (Target::Everything, Fault::status(403)),
        (Target::Everything, Fault::status(500)),
        (Target::Everything, Fault::Status(429, RetryAfter::Silent)),
        (Target::Everything, Fault::Unauthorized),
        (Target::Everything, Fault::Challenge(format!(r#"Bearer realm="{inside}""#))),
        (Target::Everything, Fault::Challenge(format!(r#"Bearer realm="{CANARY}""#))),
        (Target::Everything, Fault::Challenge(r#"Basic realm="x""#.into())),
        (Target::Token, Fault::Redirect(inside)),
        (
            Target::Token,
            Fault::Answer { status: 200, headers: vec![], body: format!("<{CANARY}>").into_bytes().into() },
        ),
    ]
}

/// The secrets that the servers of this test really saw or gave out.
fn secrets_of(stage: &Stage) -> Vec<String> {
    let mut secrets = Vec::new();
    for request in stage.server.traffic().requests() {
        let header = request.header("authorization").and_then(|value| value.split_once(' '));
        secrets.extend(header.map(|(_, secret)| secret.to_owned()));
        let query = request.query.unwrap_or_default();
        secrets.extend(query.split_once("X-Signature=").map(|(_, signature)| signature.to_owned()));
    }
    secrets.sort();
    secrets.dedup();
    secrets
}

#[tokio::test]
async fn no_secret_is_ever_said() {
    let said = Said::default();
    let _listening = said.listen();
    let mut secrets = vec![CANARY.to_owned(), STANDARD.encode(format!("user-{CANARY}:{CANARY}"))];
    let mut shown = 0;
    for (name, builder) in builders() {
        let proxy = ProxySettings {
            https: Some(format!("http://user:{CANARY}@127.0.0.1:1")),
            ..ProxySettings::default()
        };
        let stage = Stage::new(builder, RegistryOptions { proxy, ..impatient() }).await;
        stage.document("{}");
        let user = format!("user-{CANARY}");
        let password = || Credential::password(&user, CANARY);
        let identity = stage.server.identity_token(&user);
        read_in_every_way(&stage, &stage.signed_in(Some(password())), &said).await;
        let by_identity = stage.signed_in(Some(Credential::identity_token(identity.clone())));
        read_in_every_way(&stage, &by_identity, &said).await;
        let wrong = stage.signed_in(Some(Credential::password("eve", format!("wrong-{CANARY}"))));
        read_in_every_way(&stage, &wrong, &said).await;
        if name != "links that expire" {
            for (target, fault) in faults(&stage) {
                stage.server.faults().clear();
                stage.server.expire_tokens();
                stage.server.faults().always(target, fault);
                read_in_every_way(&stage, &stage.signed_in(Some(password())), &said).await;
            }
        }
        let seen = secrets_of(&stage);
        assert!(!seen.is_empty(), "{name}: the server saw no secret, so this shows nothing");
        shown += seen.len();
        secrets.extend(seen);
        secrets.push(identity);
    }
    let config = DockerConfig::parse(format!(r#"{{"auths":{{"a.io":{{"auth":"{CANARY}"}}}}}}"#).as_bytes());
    said.note_result(&config.map(|_| ()));

    let text = said.text();
    assert!(shown > 10, "{shown} secrets were shown to servers");
    for level in ["TRACE", "DEBUG"] {
        assert!(text.contains(level), "the log was not listened to");
    }
    assert!(text.contains("trying again"), "our own log lines are among them");
    for secret in secrets {
        let found = text.find(&secret);
        let around = found.map(|at| text[at.saturating_sub(300)..].chars().take(600).collect::<String>());
        assert!(found.is_none(), "{secret} was said: {around:?}");
    }
}

#[tokio::test]
async fn a_presigned_link_is_named_by_its_host_alone() {
    let stage = stage().await;
    let link = "http://127.0.0.1:1/bucket/key?X-Amz-Signature=abc&X-Amz-Credential=def";
    stage.always(Fault::Redirect(link.into()));
    let error = within(stage.anonymous().read(&stage.digest, None)).await.err().unwrap();
    assert!(error.message.contains("127.0.0.1:1"), "{error}");
    for part in ["X-Amz", "abc", "def", "bucket", "?"] {
        let rest = error.message.replace(&stage.digest.to_string(), "");
        assert!(!rest.contains(part), "{part}: {error}");
    }
}
