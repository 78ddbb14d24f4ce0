//! Plugins that are shells: a link to `sh` is the program, its arguments are the script.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stowage_volumes::Meaning;
use tokio::time::Instant;

use super::config::PLUGIN_API_VERSION;
use super::*;
use crate::credentials::tokens::Tokens;
use crate::credentials::turns::Turns;

mod processes;

/// How long anything may take on a slow machine.
const LIMIT: Duration = Duration::from_mins(1);

/// A plugin named `plugin` that runs `script`, and its directory. Each run adds a line to `runs`.
struct Stage {
    directory: tempfile::TempDir,
    settings: ProviderSettings,
    providers: Providers,
    metrics: Metrics,
    turns: Turns,
}

impl Stage {
    fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/sh", directory.path().join("plugin")).unwrap();
        let settings = ProviderSettings {
            config_file: directory.path().join("config.json"),
            bin_dir: directory.path().to_owned(),
        };
        let metrics = Metrics::new();
        let (providers, turns) = (Providers::new(metrics.clone()), Turns::default());
        let stage = Self { directory, settings, providers, metrics, turns };
        stage.script(script, &json!(null));
        stage
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration anew.
    fn script(&self, script: &str, token_attributes: &Value) {
        self.write(&json!([self.provider("plugin", script, token_attributes)]));
    }

    fn provider(&self, name: &str, script: &str, token_attributes: &Value) -> Value {
        let script = format!("echo run >> {}; {script}", self.path("runs").display());
        let mut provider = json!({
            "name": name, "matchImages": ["r.example", "*.r.example"], "defaultCacheDuration": "1h",
            "apiVersion": PLUGIN_API_VERSION, "args": ["-c", script], "env": [{ "name": "NAMED", "value": "ada" }],
        });
        if !token_attributes.is_null() {
            provider["tokenAttributes"] = token_attributes.clone();
        }
        provider
    }

    fn write(&self, providers: &Value) {
        let file = json!({
            "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": providers,
        });
        std::fs::write(&self.settings.config_file, file.to_string()).unwrap();
    }

    /// The access of a pod, as its principal.
    async fn access(&self, pod: &Pod, tokens: Option<&Secret>) -> Result<bool, CredentialError> {
        let reference = "r.example/a:v1".parse().unwrap();
        let used = UsedAnswer::default();
        let queue = self.queue();
        let found = self.providers.access(&self.settings, &reference, pod, tokens, &used, queue).await;
        found.map(|access| access.is_some())
    }

    /// What the metric says of the file.
    fn valid(&self) -> bool {
        let text = self.metrics.render().unwrap();
        text.contains("stowage_credential_providers_valid 1")
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.path("runs")).map_or(0, |runs| runs.lines().count())
    }

    fn queue(&self) -> Queue<'_> {
        Queue { turns: &self.turns, namespace: "team", until: Instant::now() + LIMIT }
    }

    /// User and password for an image, or why there are none.
    async fn ask(&self, image: &str) -> Result<Option<(String, String)>, String> {
        self.ask_in(self.queue(), image).await
    }

    async fn ask_in(&self, queue: Queue<'_>, image: &str) -> Result<Option<(String, String)>, String> {
        let reference = image.parse().unwrap();
        let file = self.providers.0.file.read(&self.settings).map_err(|error| error.to_string())?;
        let Some(provider) = file.iter().find(|provider| provider.covers(&reference)) else {
            return Ok(None);
        };
        let asked = Asked {
            provider: provider.fingerprint.clone(),
            owner: String::new(),
            reference,
            namespace: "team".to_owned(),
        };
        let found = self.providers.ask(&self.settings, provider, None, &asked, queue).await;
        Ok(found.map_err(|error| error.to_string())?.map(|credential| match credential {
            Credential::Password { username, password } => (username, password.expose().to_owned()),
            Credential::IdentityToken(_) => panic!("an identity token"),
        }))
    }
}

/// A script that answers with one pair for `r.example` and all below.
fn answering(kept_for: &str, duration: Option<&str>) -> String {
    let mut answer = json!({
        "apiVersion": PLUGIN_API_VERSION, "kind": "CredentialProviderResponse", "cacheKeyType": kept_for,
        "auth": {
            "r.example": { "username": "NAME", "password": "pw" },
            "*.r.example": { "username": "NAME", "password": "sub" },
        },
    });
    if let Some(duration) = duration {
        answer["cacheDuration"] = json!(duration);
    }
    format!("cat > /dev/null; echo '{answer}' | sed \"s/NAME/$NAMED/g\"")
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with an answer")]
fn pair(password: &str) -> Result<Option<(String, String)>, String> {
    Ok(Some(("ada".to_owned(), password.to_owned())))
}

#[tokio::test]
async fn answers_are_kept_for_what_the_plugin_says_and_as_long() {
    for (kept_for, duration, runs) in [
        ("Image", None, [1, 1, 2, 3]),
        ("Registry", None, [1, 1, 1, 2]),
        ("Global", None, [1, 1, 1, 1]),
        ("Global", Some("0s"), [1, 2, 3, 4]),
        ("Image", Some("10m"), [1, 1, 2, 3]),
    ] {
        let stage = Stage::new(&answering(kept_for, duration));
        let images = ["r.example/a:v1", "r.example/a:v2", "r.example/b:v1", "eu.r.example/a:v1"];
        for (image, expected) in images.into_iter().zip(runs) {
            let password = if image.starts_with("eu") { "sub" } else { "pw" };
            assert_eq!(stage.ask(image).await, pair(password), "{kept_for} {duration:?} {image}");
            assert_eq!(stage.runs(), expected, "{kept_for} {duration:?} {image}");
        }
    }
}

#[tokio::test]
async fn other_images_run_nothing_and_a_changed_file_counts_at_once() {
    let stage = Stage::new(&answering("Global", None));
    assert_eq!(stage.ask("other.example/a:v1").await, Ok(None));
    assert_eq!(stage.runs(), 0);
    assert_eq!(stage.ask("r.example/a:v1").await, pair("pw"));
    stage.script(&answering("Global", None).replace("\"pw\"", "\"new\""), &json!(null));
    assert_eq!(stage.ask("r.example/a:v1").await, pair("new"));
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_the_metric_says_so() {
    let stage = Stage::new(&answering("Global", None));
    let good = std::fs::read(&stage.settings.config_file).unwrap();
    assert_eq!(stage.ask("r.example/a:v1").await, pair("pw"));
    std::fs::write(&stage.settings.config_file, "canary: [").unwrap();
    assert_eq!(stage.ask("r.example/a:v1").await, pair("pw"));
    assert_eq!(stage.ask("other.example/a:v1").await, Ok(None), "images that no plugin is for");
    assert!(!stage.valid());
    std::fs::remove_file(&stage.settings.config_file).unwrap();
    assert_eq!(stage.ask("r.example/a:v1").await, pair("pw"));
    std::fs::write(&stage.settings.config_file, good).unwrap();
    assert_eq!(stage.ask("r.example/a:v1").await, pair("pw"));
    assert!(stage.valid());
    std::fs::remove_file(&stage.settings.config_file).unwrap();
    assert_eq!(stage.ask("r.example/a:v1").await, pair("pw"));
    stage.providers.none();
    assert!(stage.valid(), "no file is named any more");
}

#[tokio::test]
async fn a_file_that_was_never_good_is_the_administrators_and_pods_hear_no_word_of_it() {
    let stage = Stage::new("");
    for text in ["canary: [", r#"{"canary": 1}"#] {
        std::fs::write(&stage.settings.config_file, text).unwrap();
        let error = stage.ask("r.example/a:v1").await.unwrap_err();
        assert!(error.contains("ask the administrator"), "{error}");
        assert!(!error.contains("canary") && !error.contains("config.json"), "{error}");
    }
    assert!(!stage.valid());
}

#[tokio::test]
async fn the_request_names_the_image_without_its_tag_and_our_own_settings_stay_with_us() {
    let stage = Stage::new("");
    let (request, environment) = (stage.path("request"), stage.path("environment"));
    let script = format!(
        "cat > {}; env > {}; {}",
        request.display(),
        environment.display(),
        answering("Image", None).replacen("cat > /dev/null;", "", 1)
    );
    stage.script(&script, &json!(null));
    stage.ask("r.example/team/a:v1").await.unwrap();
    let request: serde_json::Value = serde_json::from_slice(&std::fs::read(request).unwrap()).unwrap();
    assert_eq!(
        request,
        json!({
            "apiVersion": PLUGIN_API_VERSION, "kind": "CredentialProviderRequest", "image": "r.example/team/a",
        })
    );
    let environment = std::fs::read_to_string(environment).unwrap();
    assert!(environment.contains("NAMED=ada") && !environment.contains("STOWAGE_"), "{environment}");
    assert!(environment.contains("PWD=/\n"), "{environment}");
}

#[tokio::test]
async fn failures_are_told_without_what_the_plugin_wrote() {
    for (script, expected) in [
        ("echo canary >&2; echo canary; exit 3", "exit status: 3"),
        ("echo canary", "not valid at line 1"),
        ("echo '{\"canary\": 1}'", "not valid"),
        (answering("Canary", None).as_str(), "not valid"),
        (answering("Image", Some("canary")).as_str(), "cacheDuration"),
        (answering("Image", None).replace("/v1\"", "/v9\"").as_str(), PLUGIN_API_VERSION),
        ("head -c 2000000 /dev/zero", "more than"),
        ("kill -9 $$", "signal"),
    ] {
        let stage = Stage::new(script);
        let error = stage.ask("r.example/a:v1").await.unwrap_err();
        assert!(error.contains(expected) && error.contains("`plugin`"), "{expected} not in: {error}");
        assert!(!error.to_lowercase().contains("canary"), "{error}");
        assert!(stage.ask("r.example/a:v1").await.is_err());
        assert_eq!(stage.runs(), 2, "a failure is not kept");
    }
    let stage = Stage::new("");
    std::fs::remove_file(stage.path("plugin")).unwrap();
    assert!(stage.ask("r.example/a:v1").await.unwrap_err().contains("cannot be started"));
}

#[tokio::test]
async fn an_answer_without_a_credential_is_kept_too() {
    let nothing = json!({
        "apiVersion": PLUGIN_API_VERSION, "kind": "CredentialProviderResponse", "cacheKeyType": "Image", "auth": {},
    });
    let stage = Stage::new(&format!("echo '{nothing}'"));
    for _ in 0..2 {
        assert_eq!(stage.ask("r.example/a:v1").await, Ok(None));
    }
    assert_eq!(stage.runs(), 1);
}

/// The plugin waits at a pipe until everybody has asked.
#[tokio::test(flavor = "multi_thread")]
async fn pods_that_ask_at_the_same_time_wait_for_one_run() {
    let stage = Stage::new("");
    let pipe = stage.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    stage.script(&format!("read go < {}; {}", pipe.display(), answering("Image", Some("0"))), &json!(null));
    let asking = futures::future::join_all((0..20).map(|_| stage.ask("r.example/a:v1")));
    // In this order: all have asked before the pipe is written to.
    let opening = async { tokio::task::spawn_blocking(move || open_when_read(&pipe)).await };
    let (answers, opened) = futures::future::join(asking, opening).await;
    opened.unwrap();
    assert!(answers.iter().all(|answer| *answer == pair("pw")), "{answers:?}");
    assert_eq!(stage.runs(), 1);
}

/// A run goes on when nobody waits for it any more, and has its turn until it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_runs_no_more_plugins_at_once_than_its_share() {
    let stage = Stage::new("");
    let pipe = stage.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open at both ends, so that nobody waits for the other one.
    let mut gate = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    stage.script(&format!("read go < {}; {}", pipe.display(), answering("Image", None)), &json!(null));
    for number in 0..4 {
        let image = format!("r.example/{number}:v1");
        tokio::select! {
            answer = stage.ask(&image) => panic!("{answer:?}"),
            () = until(|| stage.runs() == number + 1) => {}
        }
    }
    let soon = Queue { until: Instant::now() + Duration::from_millis(50), ..stage.queue() };
    let busy = stage.ask_in(soon, "r.example/late:v1").await.unwrap_err();
    assert!(busy.contains("at most 8, and 4 of one namespace"), "{busy}");
    assert_eq!(stage.runs(), 4);
    // A line for each that waits, and one for the next.
    gate.write_all(b"\n\n\n\n\n").unwrap();
    assert_eq!(stage.ask("r.example/late:v1").await, pair("pw"));
    assert_eq!(stage.runs(), 5);
}

async fn until(mut holds: impl FnMut() -> bool) {
    let met = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !holds() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, met).await.unwrap();
}

/// Opening the writing end waits for the reader.
fn open_when_read(pipe: &Path) {
    std::fs::write(pipe, "go\n").unwrap();
}

/// The tokens of a pod of `account` in the namespace `team`.
fn tokens(account: &str, salt: &str) -> Secret {
    use base64::Engine as _;

    let claims = json!({ "sub": format!("system:serviceaccount:team:{account}"), "aud": ["r"] });
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    Secret::new(json!({ "r": { "token": format!("e30.{payload}.{salt}") } }).to_string())
}

fn pod(account: &str) -> Pod {
    Pod { namespace: "team".to_owned(), service_account: account.to_owned(), ..Pod::default() }
}

fn wish(required: bool) -> Value {
    json!({ "serviceAccountTokenAudience": "r", "cacheType": "ServiceAccount", "requireServiceAccount": required })
}

#[tokio::test]
async fn a_plugin_for_which_the_pod_has_no_token_is_passed_over() {
    let stage = Stage::new("");
    let second = stage.path("second");
    std::os::unix::fs::symlink("/bin/sh", &second).unwrap();
    let demanding = stage.provider("plugin", &answering("Image", None), &wish(true));
    stage.write(&json!([demanding, stage.provider("second", &answering("Image", None), &Value::Null)]));
    assert!(stage.access(&pod("one"), None).await.unwrap());
    assert_eq!(stage.runs(), 1, "the second alone");
    // Where no other has anything, the token is what is missing; a plugin that fails may have it the next time.
    for (script, expected) in [(NOTHING, Meaning::Unauthenticated), ("exit 1", Meaning::Unavailable)] {
        stage.write(&json!([demanding, stage.provider("second", script, &Value::Null)]));
        let error = stage.access(&pod("one"), None).await.unwrap_err();
        assert_eq!(error.meaning(), expected, "{error}");
    }
}

/// A plugin that has no credential.
const NOTHING: &str = r#"echo '{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse", "cacheKeyType": "Image"}'"#;

#[tokio::test]
async fn a_plugin_that_requires_no_service_account_is_run_without_a_token() {
    let stage = Stage::new("");
    let seen = stage.path("seen");
    let script = format!(
        "cat >> {}; {}",
        seen.display(),
        answering("Global", None).replacen("cat > /dev/null;", "", 1)
    );
    stage.script(&script, &wish(false));
    assert!(stage.access(&pod("one"), None).await.unwrap());
    assert!(!std::fs::read_to_string(&seen).unwrap().contains("serviceAccountToken"));
    assert!(stage.access(&pod("one"), Some(&tokens("one", "a"))).await.unwrap());
    assert!(std::fs::read_to_string(&seen).unwrap().contains("serviceAccountToken"));
    // Somebody else's is no token of the pod's.
    let stolen = stage.access(&pod("two"), Some(&tokens("one", "a"))).await;
    assert!(matches!(stolen, Err(CredentialError::Token(_))));
    assert_eq!(stage.runs(), 2);
}

#[tokio::test]
async fn a_plugin_that_is_configured_otherwise_is_another_holder() {
    let stage = Stage::new("");
    let credential = Credential::password("AWS", "pw");
    let mut principals = Vec::new();
    for (script, wish, account) in [
        ("a", Value::Null, None),
        ("b", Value::Null, None),
        ("a", wish(true), Some("one")),
        ("b", wish(true), Some("one")),
    ] {
        stage.script(script, &wish);
        let provider = config::read(&stage.settings).unwrap().remove(0);
        let holder = || {
            let token = account.map(|account| {
                Tokens::parse(Some(&tokens(account, "x"))).unwrap().bound("r", &pod(account)).unwrap()
            });
            principal(&provider, &credential, token)
        };
        let own = holder();
        assert!(own == holder(), "the same configuration, read again");
        assert!(!principals.contains(&own), "{script}");
        principals.push(own);
    }
}

#[tokio::test]
async fn a_plugin_that_wants_a_token_gets_the_pods_own_and_its_answers_stay_with_the_service_account() {
    let stage = Stage::new("");
    let seen = stage.path("seen");
    let script = format!(
        "cat >> {}; {}",
        seen.display(),
        answering("Global", None).replacen("cat > /dev/null;", "", 1)
    );
    stage.script(&script, &wish(true));
    let ask = async |account: &str, tokens: Option<&Secret>| stage.access(&pod(account), tokens).await;
    assert!(ask("one", Some(&tokens("one", "a"))).await.unwrap());
    assert!(std::fs::read_to_string(&seen).unwrap().contains(".a\""), "the plugin has seen the token");
    assert!(ask("one", Some(&tokens("one", "b"))).await.unwrap());
    assert_eq!(stage.runs(), 1, "a rotated token of the same service account");
    assert!(ask("two", Some(&tokens("two", "a"))).await.unwrap());
    assert_eq!(stage.runs(), 2, "another service account");
    for (account, tokens) in [("one", None), ("two", Some(tokens("one", "a")))] {
        assert!(matches!(ask(account, tokens.as_ref()).await, Err(CredentialError::Token(_))), "{account}");
    }
    assert_eq!(stage.runs(), 2);
}
